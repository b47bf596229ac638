/*
 * Dovetail: a language model on the CPU whose next tokens are guessed by a small drafter, on a GPU where there is
 * one. What the drafter guesses changes the speed and never the text.
 *
 * A program loads a model, makes a session, gives it a prompt and takes the text:
 *
 * dovetail_model *model;
 * dovetail_session *session;
 * dovetail_message message = {"user", 4, "Why is the sky blue?", 20};
 * if (dovetail_model_load("model.gguf", NULL, &model) == DOVETAIL_OK &&
 *     dovetail_session_new(model, NULL, &session) == DOVETAIL_OK &&
 *     dovetail_session_prompt_chat(session, &message, 1) == DOVETAIL_OK)
 *     dovetail_session_generate(session, NULL, 200, print, NULL); // your callback
 *
 * What follows goes from the simple to the advanced: status and errors, options, models, pieces, sessions; sessions in
 * steps of one's own, text and tokens, several sessions in one pass, sessions in files.
 *
 * Rules that hold everywhere:
 *
 * - Functions that can fail return a dovetail_status; dovetail_last_error has a line about what went wrong and what
 *   to do. What they hand out through a pointer is written on success alone, unless the function says otherwise.
 * - Handles are opaque and never pointers to memory. One that was freed, is NULL or of another kind is refused with
 *   DOVETAIL_ERROR_HANDLE, and freeing NULL, or a second time, does nothing.
 * - Text is UTF-8, a pointer and its length in bytes; NULL is allowed where the length is 0. Paths, names and lines for
 *   people end in a NUL.
 * - A structure that begins with `size` may grow in later versions: let dovetail_options_init and the like fill it, or set
 *   `size` to its sizeof where it is handed out. Programs and libraries of different versions work together.
 * - Any thread may use any handle. A model serves all threads at once. A session does one thing at a time: a second
 *   call meanwhile, also one from its own callback, is refused with DOVETAIL_ERROR_BUSY, but for
 *   dovetail_session_cancel and dovetail_session_free, which end the first one after its present pass.
 * - Callbacks run on the thread that called, before its function returns; they get the `userdata` that came with them,
 *   must not throw or longjmp, and may free any handle. What a callback is given it may read until it returns. While
 *   another thread is still in a call with a session, its callbacks may run after dovetail_session_free has returned.
 * - Nothing is printed but for an internal error, and no failure ends the program, unless the system has no memory left.
 * - What comes from outside may hold the texts of control tokens. In a conversation, as in every other program, they become
 *   these tokens: only dovetail_tokenize can keep them from it.
 */

#ifndef DOVETAIL_H
#define DOVETAIL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define DOVETAIL_VERSION "0.1.0"
#define DOVETAIL_VERSION_MAJOR 0
#define DOVETAIL_VERSION_MINOR 1
#define DOVETAIL_VERSION_PATCH 0

#ifdef __cplusplus
extern "C" {
#endif

/* ============================================================================================== */
/*
 * What becomes of a call.
 */

/** What became of a call. Codes keep their numbers; later versions may add others. */
typedef enum {
  /** It did what it says. */
  DOVETAIL_OK = 0,
  /** The text has ended: there is no further piece. */
  DOVETAIL_END = 1,
  /** A callback returned false, or dovetail_session_cancel was called. */
  DOVETAIL_CANCELLED = 2,
  /** An argument cannot be: NULL where something is needed, text that is not UTF-8, an option that is not known. */
  DOVETAIL_ERROR_ARGUMENT = 3,
  /** No such handle: NULL, freed, or of another kind. */
  DOVETAIL_ERROR_HANDLE = 4,
  /** The session is in the middle of another call. */
  DOVETAIL_ERROR_BUSY = 5,
  /** The buffer is too small; the length that is needed was written. */
  DOVETAIL_ERROR_BUFFER = 6,
  /** The system refused a file. */
  DOVETAIL_ERROR_IO = 7,
  /** The file is no model, or lacks something that its kind of model needs. */
  DOVETAIL_ERROR_MODEL = 8,
  /** The file is no session of this model, or is damaged. */
  DOVETAIL_ERROR_SESSION_FILE = 9,
  /** Well formed, but not something that this library can run. */
  DOVETAIL_ERROR_UNSUPPORTED = 10,
  /** A GPU failed, or has no room left. */
  DOVETAIL_ERROR_DEVICE = 11,
  /** The prompt cannot be used: it is empty, say. */
  DOVETAIL_ERROR_PROMPT = 12,
  /** The prompt does not fit the context. */
  DOVETAIL_ERROR_CONTEXT = 13,
  /** The chat template is missing, cannot be parsed, or refuses the messages. */
  DOVETAIL_ERROR_TEMPLATE = 14,
  /** Memory does not suffice. */
  DOVETAIL_ERROR_MEMORY = 15,
  /** A mistake in this library; please report it. A session that it happened to can only be freed. */
  DOVETAIL_ERROR_INTERNAL = 16,
} dovetail_status;

/** What a code means, in a few words; never NULL, whatever the number. */
const char *dovetail_status_string(int32_t status);

/* ============================================================================================== */
/*
 * Errors, and what this library is and can do here.
 */

/**
 * A line about the last call with this handle that failed: what happened, where, and what to do. With NULL, or a
 * handle that is not there any more, about the last failed call of this thread, which is where to look when something
 * could not be made. Never NULL; empty if nothing failed. The text stays until this thread calls this again.
 */
const char *dovetail_last_error(const void *handle);

/** The version of the library at hand, as "1.2.3"; DOVETAIL_VERSION is that of this header. */
const char *dovetail_version(void);

/**
 * Whether something can be used here: "gpu", a GPU to draft on; or an instruction set of this CPU: "amx", "avx512",
 * "avxvnni", "avx2", "i8mm", "dotprod", "neon", "scalar". Anything else is not there, nor is NULL.
 */
bool dovetail_has_feature(const char *name);

/* ============================================================================================== */
/*
 * Options.
 *
 * One structure has what a model is loaded with and what its sessions begin with. NULL in its place means the defaults:
 * those of dovetail-run, so that a drafter which lies ready for the model is used without asking. Names are the values
 * of dovetail-run's flags. Names and paths are copied; callbacks and `userdata` are kept for as long as the model or
 * session lives.
 */

/** What takes long enough to be told about. */
typedef enum {
  /** The weights are packed, or read for the first time since the system has started. */
  DOVETAIL_STAGE_LOADING = 0,
  /** What passes cost on this machine is measured, once for a model: see `tree`. */
  DOVETAIL_STAGE_MEASURING = 1,
  /** A prompt is read. */
  DOVETAIL_STAGE_PROMPT = 2,
} dovetail_stage;

/** How important a line is. */
typedef enum {
  /** What people should know. */
  DOVETAIL_LOG_NOTE = 0,
  /** What helps to find out why something is as it is. */
  DOVETAIL_LOG_DETAIL = 1,
} dovetail_log_level;

/** When a drafter drafts. The text does not show it. */
typedef enum {
  /** When it pays. */
  DOVETAIL_DRAFTING_AUTO = 0,
  /** Never. */
  DOVETAIL_DRAFTING_OFF = 1,
  /** Always. */
  DOVETAIL_DRAFTING_ON = 2,
} dovetail_drafting;

/** Told how far something is, from 0 to 1; false cancels it. */
typedef bool (*dovetail_progress_callback)(void *userdata, dovetail_stage stage, double part);

/** Told a line for people, without a newline. */
typedef void (*dovetail_log_callback)(void *userdata, dovetail_log_level level, const char *line);

/**
 * How a model is loaded, and how its sessions are made. Let dovetail_options_init fill it, then change what you
 * like; 0 and NULL are the defaults of all fields.
 */
typedef struct {
  /** sizeof(dovetail_options). */
  size_t size;
  /** Given to both callbacks. */
  void *userdata;
  /** Told how far long work is; false cancels it. */
  dovetail_progress_callback progress;
  /** Told lines for people. */
  dovetail_log_callback log;
  /**
   * Threads at work in each session, and while loading; 0 for the physical cores. Sessions that run side by side do
   * well to share these out.
   */
  uint32_t threads;
  /**
   * Most tokens of a session, prompts and answers together; 0 for as many as the model was made for and memory
   * holds.
   */
  uint32_t n_ctx;
  /** Most tokens of a prompt in one pass; 0 for 512. A session has buffers for so many. */
  uint32_t n_ubatch;
  /**
   * How many sessions of the model are meant to step together (dovetail_step), from 1 to 16, so that what they cost
   * is measured too; 0 for 1.
   */
  uint32_t n_together;
  /**
   * Where weights are packed to: "auto", "cache" (a file in the cache directory that the next start maps),
   * "memory", "off"; NULL for "auto".
   */
  const char *repack;
  /** A chat template in place of the model's: a name such as "chatml", or a Jinja template; NULL for the model's. */
  const char *chat_template;
  /** Types of keys and values in the cache: "f16", "q8_0"; NULL for "f16". The text depends on them. */
  const char *cache_type_k;
  /** See `cache_type_k`. */
  const char *cache_type_v;
  /** Hold the weights in memory instead of mapping a file. */
  bool no_mmap;
  /** Keep the weights from being swapped out. */
  bool mlock;
  /**
   * Who guesses tokens ahead: "auto", the drafter that lies ready for the model, or what `model_draft` names;
   * "none"; "ngram"; "lm"; "dgf". NULL for "auto".
   */
  const char *spec_type;
  /** The drafter's file; NULL for the one that lies ready. */
  const char *model_draft;
  /**
   * How large trees of guesses are: "cost", as large as pays on this machine, which is measured at the first use of
   * a model, for some seconds; "chain:4", "beam:4,3,9", "eagle2:60", "cast". NULL for "cost".
   */
  const char *tree;
  /**
   * Which guesses are accepted: "matching", those that plain decoding draws; "rejection", more of them where the
   * temperature is high, with another text of the same distribution. NULL for "matching".
   */
  const char *spec_sampling;
  /** Where a trained drafter runs: "auto", "cpu", "gpu", or "gpu0" and so on; NULL for "auto". */
  const char *draft_device;
  /** Bytes of a GPU's memory that a drafter may take; 0 for all. */
  uint64_t vram_limit;
  /** Guesses on a path at most, up to 63; 0 for what `tree` says. */
  uint32_t draft_n_max;
  /** Guesses are left out whose path is less likely than this, as the drafter sees it; 0 for the drafter's own. */
  float draft_p_min;
} dovetail_options;

/** What is added to the logit of a token; -INFINITY forbids it. */
typedef struct {
  /** The token. */
  uint32_t token;
  /** What is added. */
  float bias;
} dovetail_logit_bias;

/**
 * How tokens are chosen. Let dovetail_sampling_init fill it, then change what you like; NULL in its place means those
 * defaults, which are llama.cpp's but for the seed: that is 0, not drawn.
 */
typedef struct {
  /** sizeof(dovetail_sampling). */
  size_t size;
  /** Selects one of all possible texts; 0 by default. */
  uint64_t seed;
  /** Divides the logits; 0 always takes the most likely token. 0.8 by default. */
  float temperature;
  /** Keeps the so many most likely tokens; 0 keeps all. 40 by default. */
  uint32_t top_k;
  /** Keeps the most likely tokens that together have this probability; 1 keeps all. 0.95 by default. */
  float top_p;
  /** Drops tokens less likely than this part of the most likely one; 0 keeps all. 0.05 by default. */
  float min_p;
  /** Divides positive and multiplies negative logits of recent tokens; 1 leaves them, and is the default. */
  float repeat_penalty;
  /** How many tokens back a token is recent; -1 for the whole context. 64 by default. */
  int32_t repeat_last_n;
  /** Subtracted from the logits of recent tokens; 0 by default. */
  float presence_penalty;
  /** Subtracted from the logits of recent tokens once for each time they occur; 0 by default. */
  float frequency_penalty;
  /** Go on when the model ends its answer; false by default. */
  bool ignore_eos;
  /** When the session's drafter drafts, one of dovetail_drafting; DOVETAIL_DRAFTING_AUTO by default. */
  uint32_t drafting;
  /** What is added to the logits of tokens before all else, and how many there are; none by default. */
  const dovetail_logit_bias *logit_bias;
  /** See `logit_bias`. */
  size_t n_logit_bias;
  /**
   * Texts that end the answer and are not part of it, and how many there are. One that is the text of a control token
   * ends it at that token. None by default.
   */
  const char *const *stop;
  /** See `stop`. */
  size_t n_stop;
  /** So many of the likeliest tokens come with each piece, where `logprobs` is set; 0 by default. */
  uint32_t n_top_logprobs;
  /** Whether pieces say how likely their tokens were; false by default. */
  bool logprobs;
} dovetail_sampling;

/** Fills options with the defaults. `size` is sizeof(dovetail_options). */
dovetail_status dovetail_options_init(dovetail_options *options, size_t size);

/** Fills a choice of tokens with the defaults. `size` is sizeof(dovetail_sampling). */
dovetail_status dovetail_sampling_init(dovetail_sampling *sampling, size_t size);

/* ============================================================================================== */
/*
 * Models.
 */

/** A model: its weights and its vocabulary. Any number of sessions share one. */
typedef struct dovetail_model dovetail_model;

/** What a model is. */
typedef struct {
  /** sizeof(dovetail_model_info), set by the caller. */
  size_t size;
  /** Its name, and its architecture as GGUF names it; both stay as long as the model. */
  const char *name;
  /** See `name`. */
  const char *architecture;
  /** Bytes of its weights in its files. */
  uint64_t bytes;
  /** Tokens that it was made for. */
  uint32_t n_ctx;
  /** Tokens of its vocabulary. */
  uint32_t n_vocab;
  /** Numbers of a hidden state. */
  uint32_t n_embd;
  /** Its layers. */
  uint32_t n_layers;
  /** The tokens that begin a text, end one, and end a turn of a chat; -1 where there is none. */
  int32_t token_bos;
  /** See `token_bos`. */
  int32_t token_eos;
  /** See `token_bos`. */
  int32_t token_eot;
  /**
   * Whether it has a chat template, its own or the one of the options. A template of its own that cannot be parsed
   * counts: whatever needs it gives DOVETAIL_ERROR_TEMPLATE then.
   */
  bool has_chat_template;
} dovetail_model_info;

/**
 * Loads a model from a GGUF file, any part of a split one, and hands out its handle. The first start with a large model
 * packs its weights into a file of the cache directory, which later ones map: see `repack`. `options` may be NULL; they
 * are also what dovetail_session_new takes where it is given none. DOVETAIL_CACHE in the environment names another cache
 * directory, DOVETAIL_ISA an instruction set.
 */
dovetail_status dovetail_model_load(const char *path,
                                    const dovetail_options *options,
                                    dovetail_model **model);

/** Lets go of a model. Its sessions keep what they need of it. */
void dovetail_model_free(dovetail_model *model);

/** Writes what a model is to `info`, whose size the caller has set. */
dovetail_status dovetail_model_get_info(const dovetail_model *model, dovetail_model_info *info);

/* ============================================================================================== */
/*
 * Pieces of an answer, why it ends, and what is counted.
 */

/** Why an answer has ended. */
typedef enum {
  /** It has not, or there was none. */
  DOVETAIL_STOP_NONE = 0,
  /** The model ended it. */
  DOVETAIL_STOP_END = 1,
  /** It has as many tokens as were asked for. */
  DOVETAIL_STOP_LENGTH = 2,
  /** The context is full. */
  DOVETAIL_STOP_CONTEXT = 3,
  /** The callback returned false. */
  DOVETAIL_STOP_CALLBACK = 4,
  /** It was cancelled. */
  DOVETAIL_STOP_CANCELLED = 5,
  /** A call failed. */
  DOVETAIL_STOP_FAILED = 6,
  /** A stop text came. */
  DOVETAIL_STOP_TEXT = 7,
} dovetail_stop;

/** A token and the logarithm of its probability. */
typedef struct {
  /** The token. */
  uint32_t token;
  /** The logarithm of its probability. */
  float logprob;
} dovetail_logprob;

/** A piece of generated text. */
typedef struct {
  /** sizeof(dovetail_piece), set by the library. */
  size_t size;
  /**
   * What it adds to the text, whole characters, with a NUL behind that is not counted. Empty while a character is
   * incomplete.
   */
  const char *text;
  /** Bytes of it. */
  size_t text_len;
  /** The token, if there is one: a character cut off at the very end becomes U+FFFD, which is none. */
  uint32_t token;
  /** Whether there is a token. */
  bool has_token;
  /** Whether a drafter had guessed it. */
  bool guessed;
  /** Whether `logprob` says how likely the token was, as dovetail_sampling asks for. */
  bool has_logprob;
  /** The logarithm of its probability, before anything is done to the logits. */
  float logprob;
  /** The likeliest tokens, the likeliest first, and how many there are. */
  const dovetail_logprob *top;
  /** See `top`. */
  size_t n_top;
} dovetail_piece;

/** Told each piece of an answer; false stops it there. */
typedef bool (*dovetail_piece_callback)(void *userdata, const dovetail_piece *piece);

/** Counts and times since the last prompt, as llama.cpp's server names them; times are in milliseconds. */
typedef struct {
  /** sizeof(dovetail_stats), set by the caller. */
  size_t size;
  /** Tokens of the sequence, and most that it may have. */
  uint64_t n_tokens;
  /** See `n_tokens`. */
  uint64_t n_ctx;
  /** Prompt tokens that were run, and those that were still in the cache and were not. */
  uint64_t prompt_n;
  /** See `prompt_n`. */
  uint64_t cache_n;
  /** Time for the prompt. */
  double prompt_ms;
  /** Tokens generated, without an end token. */
  uint64_t predicted_n;
  /** Time for them. */
  double predicted_ms;
  /** Rounds: passes of the model over a tree of guesses, or none. */
  uint64_t rounds;
  /** Guesses that were verified, and those that were accepted. */
  uint64_t draft_n;
  /** See `draft_n`. */
  uint64_t draft_n_accepted;
  /** Time of guessing, and of verifying. */
  double draft_ms;
  /** See `draft_ms`. */
  double verify_ms;
  /** Who guesses, and where; NULL if nobody does. It stays until the next call with this session. */
  const char *drafter;
  /** Why the last answer has ended. */
  dovetail_stop stop;
} dovetail_stats;

/* ============================================================================================== */
/*
 * Sessions.
 *
 * A session is one sequence of tokens: prompts and answers in turn. Give it the whole conversation as the prompt each
 * time: what it has in common with the sequence so far is not run again.
 */

/** A sequence of a model, and who guesses for it. */
typedef struct dovetail_session dovetail_session;

/** One turn of a conversation. */
typedef struct {
  /** "system", "user" or "assistant", or where the template knows them "developer" or "tool", and its length. */
  const char *role;
  /** See `role`. */
  size_t role_len;
  /** What was said, and its length. */
  const char *content;
  /** See `content`. */
  size_t content_len;
} dovetail_message;

/**
 * Makes a session and hands out its handle. Where `options` is NULL those are taken that the model was loaded with; of
 * others `repack`, `no_mmap` and `mlock` have no effect, since the model is loaded. A drafter that was not asked for and
 * cannot be used is done without, which a line to `log` says.
 */
dovetail_status dovetail_session_new(const dovetail_model *model,
                                     const dovetail_options *options,
                                     dovetail_session **session);

/**
 * Lets go of a session. A call that it is in the middle of, on another thread or around the callback that calls this, is
 * cancelled and ends well.
 */
void dovetail_session_free(dovetail_session *session);

/**
 * Makes a conversation the sequence, as the chat template has it, so that the assistant's next message follows. A
 * DOVETAIL_CANCELLED leaves what was run so far.
 */
dovetail_status dovetail_session_prompt_chat(dovetail_session *session,
                                             const dovetail_message *messages,
                                             size_t n_messages);

/** Makes a text the sequence, for the model to complete. Texts of control tokens in it become those tokens. */
dovetail_status dovetail_session_prompt_text(dovetail_session *session,
                                             const char *text,
                                             size_t text_len);

/**
 * Generates up to `n_predict` tokens behind the sequence, where SIZE_MAX is as many as the context holds, and tells
 * `callback` each piece. DOVETAIL_OK also where the callback stopped it: dovetail_stats says why it ended. `sampling`
 * and `callback` may be NULL.
 */
dovetail_status dovetail_session_generate(dovetail_session *session,
                                          const dovetail_sampling *sampling,
                                          size_t n_predict,
                                          dovetail_piece_callback callback,
                                          void *userdata);

/**
 * Ends what the session is in the middle of, or else its next call that generates, soon and with
 * DOVETAIL_CANCELLED; a prompt that begins later forgets it. From any thread, any number of times. The session can be
 * used as before then: what was generated is part of the sequence.
 */
dovetail_status dovetail_session_cancel(dovetail_session *session);

/**
 * Writes counts and times to `stats`, whose size the caller has set. While another call with the session runs, they are
 * those so far, without the drafter and the end.
 */
dovetail_status dovetail_session_get_stats(dovetail_session *session,
                                           dovetail_stats *stats);

/**
 * Lets another drafter guess for a session, or with `spec_type` "none" nobody: of `options`, NULL for those of the model,
 * only what concerns guessing is looked at. If it cannot, the session is as it was. The text is the same with any, but
 * for `spec_sampling` "rejection".
 */
dovetail_status dovetail_session_speculate(dovetail_session *session,
                                           const dovetail_options *options);

/* ============================================================================================== */
/*
 * Sessions in steps of one's own: tokens in place of text, pieces taken in place of a callback.
 */

/** Makes tokens the sequence. */
dovetail_status dovetail_session_prompt_tokens(dovetail_session *session,
                                               const uint32_t *tokens,
                                               size_t n_tokens);

/** The sequence, prompt and answer, into a buffer as dovetail_tokenize has it. */
dovetail_status dovetail_session_get_tokens(dovetail_session *session,
                                            uint32_t *tokens,
                                            size_t capacity,
                                            size_t *n_tokens);

/**
 * Begins an answer of up to `n_predict` tokens, of which dovetail_session_next or dovetail_step hand out the pieces.
 * `sampling` may be NULL.
 */
dovetail_status dovetail_session_begin(dovetail_session *session,
                                       const dovetail_sampling *sampling,
                                       size_t n_predict);

/**
 * Hands out the next piece of the answer, which stays until the next call with this session; DOVETAIL_END if there is
 * none.
 */
dovetail_status dovetail_session_next(dovetail_session *session,
                                      const dovetail_piece **piece);

/* ============================================================================================== */
/*
 * Text and tokens.
 */

/**
 * The tokens of a text, into a buffer for `capacity` of them; their number is written to `n_tokens`, also with
 * DOVETAIL_ERROR_BUFFER where they do not fit. `add_special` puts the tokens at the beginning and the end that the
 * model wants there; `parse_special` makes of the texts of control tokens these tokens, which text from outside must
 * not become.
 */
dovetail_status dovetail_tokenize(const dovetail_model *model,
                                  const char *text,
                                  size_t text_len,
                                  bool add_special,
                                  bool parse_special,
                                  uint32_t *tokens,
                                  size_t capacity,
                                  size_t *n_tokens);

/**
 * The text of some tokens, into a buffer of `capacity` bytes, without a NUL; its length is written to `text_len`, also
 * with DOVETAIL_ERROR_BUFFER where it does not fit. It may begin or end in the middle of a character. Control tokens
 * have no text unless `special`, nor have numbers that are no token.
 */
dovetail_status dovetail_detokenize(const dovetail_model *model,
                                    const uint32_t *tokens,
                                    size_t n_tokens,
                                    bool special,
                                    char *text,
                                    size_t capacity,
                                    size_t *text_len);

/**
 * The text of one token as it stands inside a text, into a buffer as dovetail_detokenize has it; that of several begins
 * without the space that some models put in front of a text.
 */
dovetail_status dovetail_token_text(const dovetail_model *model,
                                    uint32_t token,
                                    bool special,
                                    char *text,
                                    size_t capacity,
                                    size_t *text_len);

/**
 * The text that a chat template makes of a conversation, into a buffer as dovetail_detokenize has it. `chat_template` is a
 * name or a Jinja template; NULL takes the model's. `add_generation_prompt` ends it where the assistant's message
 * begins.
 */
dovetail_status dovetail_apply_chat_template(const dovetail_model *model,
                                             const char *chat_template,
                                             const dovetail_message *conversation,
                                             size_t n_messages,
                                             bool add_generation_prompt,
                                             char *text,
                                             size_t capacity,
                                             size_t *text_len);

/* ============================================================================================== */
/*
 * Several sessions in one step: one pass over the weights serves all, and each text is the one that its session gives
 * alone.
 */

/** Told each piece of each answer, with the place of its session; false stops that answer there. */
typedef bool (*dovetail_step_callback)(void *userdata, size_t i, const dovetail_piece *piece);

/**
 * Runs one round for up to 16 sessions of one model whose answers have begun (dovetail_session_begin), and tells
 * `callback` their next pieces, one or more of each. Answers that have ended stay so, and one whose session was cancelled
 * ends here, while the others go on: dovetail_stats says why. `goes_on` becomes whether any goes on. The pass is that of
 * the session with the longest context, on its threads; how large trees are is decided as it is for that one of those
 * whose `tree` is "cost" or "cast" which has the longest context. A session with `spec_sampling` "rejection" steps
 * alone. If the round fails, no answer has another token, and dovetail_last_error has the line for each session.
 */
dovetail_status dovetail_step(dovetail_session *const *sessions,
                              size_t n_sessions,
                              dovetail_step_callback callback,
                              void *userdata,
                              bool *goes_on);

/* ============================================================================================== */
/*
 * Sessions in files.
 *
 * A file has the sequence, its keys and values, and what the drafter knows of it, so that the next prompt or answer goes
 * on at once. It can be taken to another machine, and from a drafter on a GPU to one on the CPU. Files of another model,
 * or damaged ones, are refused with a reason.
 */

/**
 * Saves a session. A regular file that was there is replaced when the new one is whole, and keeps its permissions; a new
 * one can be read by its owner alone. A link stays and its target is replaced. Anything else is refused.
 */
dovetail_status dovetail_session_save(dovetail_session *session,
                                      const char *path);

/**
 * Makes what was saved the sequence of a session, which keeps its drafter. DOVETAIL_ERROR_SESSION_FILE if it was saved
 * with another model or other types of the cache, has more tokens than the context holds, or is damaged; the session is
 * then as it was. An answer that was going on is over.
 */
dovetail_status dovetail_session_load(dovetail_session *session,
                                      const char *path);

#ifdef __cplusplus
}
#endif

#endif /* DOVETAIL_H */
