/*
 * Dovetail runs a language model on the CPU with speculative decoding: a small drafter, on a GPU where there is one,
 * proposes the next tokens, and one pass of the model verifies several of them. Drafting changes the speed and never
 * the text, unless `spec_sampling` is "rejection".
 *
 * A program loads a model, creates a session, gives it a prompt and receives the text:
 *
 * dovetail_model *model;
 * dovetail_session *session;
 * dovetail_message message = {"user", 4, "Why is the sky blue?", 20};
 * if (dovetail_model_load("model.gguf", NULL, &model) == DOVETAIL_OK &&
 *     dovetail_session_new(model, NULL, &session) == DOVETAIL_OK &&
 *     dovetail_session_prompt_chat(session, &message, 1) == DOVETAIL_OK)
 *     dovetail_session_generate(session, NULL, 200, print, NULL); // your callback
 *
 * The sections go from simple to advanced: status and errors, options, models, pieces, sessions; then sessions step by
 * step, text and tokens, several sessions in one pass, and sessions in files.
 *
 * Rules that hold everywhere:
 *
 * - Functions that can fail return a dovetail_status; dovetail_last_error returns a line that says what went wrong and
 *   what to do. Results are written through pointers only on success, unless the function says otherwise.
 * - Handles are opaque numbers, not pointers. A freed, NULL or foreign handle is refused with DOVETAIL_ERROR_HANDLE.
 *   Freeing NULL, or a handle for the second time, does nothing.
 * - Text is UTF-8, a pointer and a length in bytes; the pointer may be NULL if the length is 0. Paths, names and lines
 *   for people end in a NUL.
 * - A structure that begins with `size` may grow in later versions. Let dovetail_options_init or
 *   dovetail_sampling_init fill it; where the library writes one, set `size` to its sizeof first. Programs and
 *   libraries of different versions work together.
 * - Any thread may use any handle. A model serves all threads at once. A session does one thing at a time: a second
 *   call in the meantime, even from its own callback, is refused with DOVETAIL_ERROR_BUSY. Exceptions are
 *   dovetail_session_cancel and dovetail_session_free, which end the first call after its current pass, and
 *   dovetail_session_get_stats.
 * - Callbacks run on the calling thread, before the function returns. They receive the `userdata` that was passed with
 *   them, must not throw or longjmp, and may free any handle. The data that they receive is valid until they return.
 *   While another thread is still in a call with a session, its callbacks may run after dovetail_session_free has
 *   returned.
 * - Nothing is printed except for an internal error, and no failure ends the program unless the system has no memory
 *   left.
 * - Text from outside may contain the texts of control tokens. In a conversation (dovetail_session_prompt_chat) they
 *   stay text. In prompts they become those tokens, as in a conversation that dovetail_apply_chat_template wrote as a
 *   text; only dovetail_tokenize without `parse_special` prevents this.
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
 * Results of calls.
 */

/** The result of a call. Codes keep their numbers; later versions may add others. */
typedef enum {
  /** The call succeeded. */
  DOVETAIL_OK = 0,
  /** The answer has ended: there is no further piece. */
  DOVETAIL_END = 1,
  /** A callback returned false, or dovetail_session_cancel was called. */
  DOVETAIL_CANCELLED = 2,
  /** An argument is invalid: NULL where a value is needed, text that is not UTF-8, an unknown option. */
  DOVETAIL_ERROR_ARGUMENT = 3,
  /** The handle is NULL, was freed, or is of another kind. */
  DOVETAIL_ERROR_HANDLE = 4,
  /** The session is in the middle of another call. */
  DOVETAIL_ERROR_BUSY = 5,
  /** The buffer is too small; the required length was written. */
  DOVETAIL_ERROR_BUFFER = 6,
  /** The operating system refused access to a file. */
  DOVETAIL_ERROR_IO = 7,
  /**
   * The file is not a model, lacks something that models of its kind need, or its weights are damaged: its logits are
   * NaN or infinite.
   */
  DOVETAIL_ERROR_MODEL = 8,
  /** The file is not a session of this model, or is damaged. */
  DOVETAIL_ERROR_SESSION_FILE = 9,
  /** The input is well formed, but this library cannot run it. */
  DOVETAIL_ERROR_UNSUPPORTED = 10,
  /** A GPU failed or has no memory left. */
  DOVETAIL_ERROR_DEVICE = 11,
  /** The prompt cannot be used, for example because it is empty. */
  DOVETAIL_ERROR_PROMPT = 12,
  /** The prompt does not fit the context. */
  DOVETAIL_ERROR_CONTEXT = 13,
  /** The chat template is missing, cannot be parsed, or refuses the messages. */
  DOVETAIL_ERROR_TEMPLATE = 14,
  /** There is not enough memory. */
  DOVETAIL_ERROR_MEMORY = 15,
  /** An error in this library; please report it. If a session was involved, it can only be freed. */
  DOVETAIL_ERROR_INTERNAL = 16,
} dovetail_status;

/** Returns the meaning of a code in a few words. Never NULL, whatever the number. */
const char *dovetail_status_string(int32_t status);

/* ============================================================================================== */
/*
 * Errors, version and features.
 */

/**
 * Returns a line about the last failed call with this handle: what happened, where, and what to do. With NULL, or a
 * handle that no longer exists, it is about the last failed call of this thread; use that if a function that creates
 * an object fails. Never NULL; empty if nothing failed. The text is valid until this thread calls this function again.
 */
const char *dovetail_last_error(const void *handle);

/** Returns the version of the loaded library, such as "1.2.3"; DOVETAIL_VERSION is the version of this header. */
const char *dovetail_version(void);

/**
 * Returns whether a feature can be used on this machine: "gpu", a GPU to draft on, or an instruction set of this CPU:
 * "amx", "avx512", "avxvnni", "avx2", "i8mm", "dotprod", "neon", "scalar". False for NULL and any other name.
 */
bool dovetail_has_feature(const char *name);

/* ============================================================================================== */
/*
 * Options for loading a model and for its sessions, in one structure. NULL instead of it means the defaults, which are
 * those of dovetail-run: a drafter that is found for the model is used. Names are the values of dovetail-run's flags.
 * Names and paths are copied; callbacks and `userdata` are kept as long as the model or session lives.
 */

/** Work that takes long enough to report its progress. */
typedef enum {
  /** The weights are packed, or read for the first time since the system started. */
  DOVETAIL_STAGE_LOADING = 0,
  /** The costs of passes on this machine are measured, once for each model: see `tree`. */
  DOVETAIL_STAGE_MEASURING = 1,
  /** A prompt is read. */
  DOVETAIL_STAGE_PROMPT = 2,
} dovetail_stage;

/** The importance of a line. */
typedef enum {
  /** Something that people should know. */
  DOVETAIL_LOG_NOTE = 0,
  /** A detail that helps to find the cause of a problem. */
  DOVETAIL_LOG_DETAIL = 1,
} dovetail_log_level;

/** When a drafter is used. The text does not depend on it, unless `spec_sampling` is "rejection". */
typedef enum {
  /** When it pays. */
  DOVETAIL_DRAFTING_AUTO = 0,
  /** Never. */
  DOVETAIL_DRAFTING_OFF = 1,
  /** Always. */
  DOVETAIL_DRAFTING_ON = 2,
} dovetail_drafting;

/** A kind of grammar. */
typedef enum {
  /** A JSON schema; `{}` allows any JSON value. */
  DOVETAIL_GRAMMAR_JSON_SCHEMA = 0,
  /** llama.cpp's GBNF. */
  DOVETAIL_GRAMMAR_GBNF = 1,
  /** A regular expression that matches the whole answer. */
  DOVETAIL_GRAMMAR_REGEX = 2,
  /** A Lark grammar in llguidance's dialect. */
  DOVETAIL_GRAMMAR_LARK = 3,
} dovetail_grammar;

/** Receives the progress of a stage, `part` from 0 to 1. Returns false to cancel it. */
typedef bool (*dovetail_progress_callback)(void *userdata, dovetail_stage stage, double part);

/** Receives a line for people, without a newline. */
typedef void (*dovetail_log_callback)(void *userdata, dovetail_log_level level, const char *line);

/**
 * How a model is loaded and how its sessions are created. Let dovetail_options_init fill it, then change fields. In
 * every field 0 or NULL is the default.
 */
typedef struct {
  /** sizeof(dovetail_options). */
  size_t size;
  /** Passed to both callbacks. */
  void *userdata;
  /** Receives the progress of long work; returns false to cancel it. */
  dovetail_progress_callback progress;
  /** Receives lines for people. */
  dovetail_log_callback log;
  /**
   * Number of threads of each session, and for loading; 0 for the number of physical cores. Divide the cores among
   * sessions that run side by side.
   */
  uint32_t threads;
  /**
   * Context length: most tokens of a session, prompts and answers together; 0 for as many as the model was trained
   * for and memory holds.
   */
  uint32_t n_ctx;
  /** Most prompt tokens in one pass; 0 for 512. Each session has buffers for this many. */
  uint32_t n_ubatch;
  /**
   * Number of sessions of the model, 1 to 16, that will step together (dovetail_step), so that their costs are
   * measured too; 0 for 1.
   */
  uint32_t n_together;
  /**
   * Where weights are packed: "auto", "cache" (a file in the cache directory that the next load maps), "memory" or
   * "off"; NULL for "auto".
   */
  const char *repack;
  /** Chat template in place of the model's: a name such as "chatml", or a Jinja template; NULL for the model's. */
  const char *chat_template;
  /**
   * Types of keys and values in the KV cache, "f16", "bf16", "q8_0", "q5_1", "q4_0" or "f32"; NULL for "f16". The text
   * depends on them.
   */
  const char *cache_type_k;
  /** See `cache_type_k`. */
  const char *cache_type_v;
  /** Hold the weights in memory instead of mapping a file. */
  bool no_mmap;
  /** Keep the weights from being swapped out. */
  bool mlock;
  /**
   * The kind of drafter: "auto" (`model_draft`, or the drafter that is found for the model), "none", "ngram", "lm"
   * or "dgf"; NULL for "auto".
   */
  const char *spec_type;
  /** The drafter's file; NULL for the one that is found for the model. */
  const char *model_draft;
  /**
   * How large draft trees are: "cost", as large as pays on this machine, which is measured for some seconds at the
   * first use of a model; or "chain:4", "beam:4,3,9", "eagle2:60", "cast". NULL for "cost".
   */
  const char *tree;
  /**
   * Which draft tokens are accepted: "matching", those that plain decoding samples; "rejection", more of them at
   * high temperatures, with another text from the same distribution. NULL for "matching".
   */
  const char *spec_sampling;
  /** Device of a trained drafter: "auto", "cpu", "gpu", or "gpu0" and so on; NULL for "auto". */
  const char *draft_device;
  /** Bytes of GPU memory that a drafter may use; 0 for all. */
  uint64_t vram_limit;
  /** Most draft tokens on a path, up to 63; 0 for the depth of `tree`. */
  uint32_t draft_n_max;
  /**
   * Least probability of a path, as the drafter sees it; less likely draft tokens are left out. 0 for the drafter's
   * own value.
   */
  float draft_p_min;
  /**
   * How positions are stretched, in place of what the file says: "none", "linear" or "yarn"; NULL for what it says.
   * A context longer than the model was trained for needs this, `rope_scale` or `rope_freq_base`. These four fields
   * count when a model is loaded.
   */
  const char *rope_scaling;
  /** How many times as many positions there are as in training; 0 for what the file says. */
  float rope_scale;
  /** The base of rotations; 0 for what the file says. */
  float rope_freq_base;
  /** YaRN: the context length of the training; 0 for what the file says. */
  uint32_t yarn_orig_ctx;
} dovetail_options;

/** A value added to the logit of a token; -INFINITY forbids the token. */
typedef struct {
  /** The token. */
  uint32_t token;
  /** The value that is added. */
  float bias;
} dovetail_logit_bias;

/**
 * How tokens are sampled, and how an answer ends. Let dovetail_sampling_init fill it, then change fields. NULL instead
 * of it means those defaults. They are llama.cpp's except for the seed, which is 0 and not random.
 */
typedef struct {
  /** sizeof(dovetail_sampling). */
  size_t size;
  /** Seed of the random numbers; 0 by default. */
  uint64_t seed;
  /** Divides the logits; at 0 the most likely token is always taken. 0.8 by default. */
  float temperature;
  /** Keeps this many of the most likely tokens; 0 keeps all. 40 by default. */
  uint32_t top_k;
  /** Keeps the most likely tokens that together have this probability; 1 keeps all. 0.95 by default. */
  float top_p;
  /** Drops tokens less likely than this fraction of the most likely one; 0 keeps all. 0.05 by default. */
  float min_p;
  /** Divides positive and multiplies negative logits of recent tokens; 1, the default, changes nothing. */
  float repeat_penalty;
  /** Number of last tokens that are recent; 0 for none, -1 for the whole context. 64 by default. */
  int32_t repeat_last_n;
  /** Subtracted from the logits of recent tokens; 0 by default. */
  float presence_penalty;
  /** Subtracted from the logits of recent tokens once for each occurrence; 0 by default. */
  float frequency_penalty;
  /** Whether to forbid the tokens with which the model ends its answer, so that it goes on; false by default. */
  bool ignore_eos;
  /** When the session's drafter is used for this answer, one of dovetail_drafting; DOVETAIL_DRAFTING_AUTO by default. */
  uint32_t drafting;
  /**
   * Array of values that are added to the logits of tokens before penalties and temperature, and its length; none by
   * default.
   */
  const dovetail_logit_bias *logit_bias;
  /** See `logit_bias`. */
  size_t n_logit_bias;
  /**
   * Array of texts, each ending in a NUL, that end the answer and are not part of it, and its length. The text of a
   * control token ends the answer at that token. None by default.
   */
  const char *const *stop;
  /** See `stop`. */
  size_t n_stop;
  /** Number of likeliest tokens that each piece reports if `logprobs` is set; 0 by default. */
  uint32_t n_top_logprobs;
  /** Whether pieces report the log-probabilities of their tokens; false by default. */
  bool logprobs;
  /** What kind of grammar `grammar` is, one of dovetail_grammar; DOVETAIL_GRAMMAR_JSON_SCHEMA by default. */
  uint32_t grammar_type;
  /** The answer is a text that this grammar allows; NULL, the default, allows all. Ends with a NUL. */
  const char *grammar;
  /**
   * The grammar begins behind the first occurrence of this text in the answer, such as the end of what the model
   * thinks; NULL, the default, for the beginning of the answer. Ends with a NUL.
   */
  const char *grammar_after;
} dovetail_sampling;

/** Fills options with the defaults. `size` is sizeof(dovetail_options). */
dovetail_status dovetail_options_init(dovetail_options *options, size_t size);

/** Fills sampling options with the defaults. `size` is sizeof(dovetail_sampling). */
dovetail_status dovetail_sampling_init(dovetail_sampling *sampling, size_t size);

/* ============================================================================================== */
/*
 * Models.
 */

/** A model: weights and vocabulary. Any number of sessions share it. */
typedef struct dovetail_model dovetail_model;

/** A description of a model. */
typedef struct {
  /** sizeof(dovetail_model_info), set by the caller. */
  size_t size;
  /** Its name, and its architecture as GGUF names it. Both are valid as long as the model. */
  const char *name;
  /** See `name`. */
  const char *architecture;
  /** Size of its weights in its files, in bytes. */
  uint64_t bytes;
  /** Length of the context that it was trained for, in tokens. */
  uint32_t n_ctx;
  /** Number of tokens of its vocabulary. */
  uint32_t n_vocab;
  /** Width of a hidden state. */
  uint32_t n_embd;
  /** Number of its layers. */
  uint32_t n_layers;
  /** The tokens that begin a text, end a text, and end a turn of a chat; -1 if the model has none. */
  int32_t token_bos;
  /** See `token_bos`. */
  int32_t token_eos;
  /** See `token_bos`. */
  int32_t token_eot;
  /**
   * Whether it has a chat template, its own or that of the options. True also if its own template cannot be parsed;
   * functions that need it then return DOVETAIL_ERROR_TEMPLATE.
   */
  bool has_chat_template;
} dovetail_model_info;

/**
 * Loads a model from a GGUF file, or from any part of a split one, and returns its handle in `model`. The first load
 * of a large model packs its weights into a file in the cache directory, which later loads map: see `repack`.
 * `options` may be NULL; they also apply to sessions that are created without options. The environment variable
 * DOVETAIL_CACHE sets the cache directory, DOVETAIL_ISA the instruction set.
 */
dovetail_status dovetail_model_load(const char *path,
                                    const dovetail_options *options,
                                    dovetail_model **model);

/** Frees a model. Its sessions keep what they need of it. */
void dovetail_model_free(dovetail_model *model);

/** Writes the description of a model to `info`, whose size the caller has set. */
dovetail_status dovetail_model_get_info(const dovetail_model *model, dovetail_model_info *info);

/* ============================================================================================== */
/*
 * Pieces of an answer, why it ends, and its statistics.
 */

/** Why an answer has ended. */
typedef enum {
  /** It has not ended, or there was none. */
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
  /** It reached a stop text. */
  DOVETAIL_STOP_TEXT = 7,
} dovetail_stop;

/** A token and the natural logarithm of its probability. */
typedef struct {
  /** The token. */
  uint32_t token;
  /** Natural logarithm of its probability. */
  float logprob;
} dovetail_logprob;

/** A piece of an answer. */
typedef struct {
  /** sizeof(dovetail_piece), set by the library. */
  size_t size;
  /**
   * The text that it adds, in whole characters, followed by a NUL that is not counted. Empty while a character is
   * incomplete.
   */
  const char *text;
  /** Length of `text` in bytes. */
  size_t text_len;
  /** The token, if there is one. There is none if a character that is cut off at the very end becomes U+FFFD. */
  uint32_t token;
  /** Whether there is a token. */
  bool has_token;
  /** Whether the token was drafted. */
  bool drafted;
  /** Whether `logprob` and `top` are set, as dovetail_sampling asks for. */
  bool has_logprob;
  /**
   * Natural logarithm of the token's probability, from the model's own logits: before bias, penalties and
   * temperature.
   */
  float logprob;
  /** The likeliest tokens in descending order, and their number. */
  const dovetail_logprob *top;
  /** See `top`. */
  size_t n_top;
} dovetail_piece;

/** Receives each piece of an answer. Returns false to stop the answer there. */
typedef bool (*dovetail_piece_callback)(void *userdata, const dovetail_piece *piece);

/** Statistics since the last prompt, named as in llama.cpp's server. Times are in milliseconds. */
typedef struct {
  /** sizeof(dovetail_stats), set by the caller. */
  size_t size;
  /** Number of tokens of the sequence, and the most that it may have. */
  uint64_t n_tokens;
  /** See `n_tokens`. */
  uint64_t n_ctx;
  /** Number of prompt tokens that were run, and of those that were already in the cache. */
  uint64_t prompt_n;
  /** See `prompt_n`. */
  uint64_t cache_n;
  /** Time of the prompt. */
  double prompt_ms;
  /** Number of tokens generated, without an end token. */
  uint64_t predicted_n;
  /** Time of these tokens. */
  double predicted_ms;
  /** Number of rounds: passes of the model over a draft tree, which may be empty. */
  uint64_t rounds;
  /** Number of draft tokens that were verified, and of those that were accepted. */
  uint64_t draft_n;
  /** See `draft_n`. */
  uint64_t draft_n_accepted;
  /** Time of drafting, and of verification. */
  double draft_ms;
  /** See `draft_ms`. */
  double verify_ms;
  /** The drafter's kind and device; NULL if there is none. Valid until the next call with this session. */
  const char *drafter;
  /** Why the last answer has ended. */
  dovetail_stop stop;
} dovetail_stats;

/* ============================================================================================== */
/*
 * Sessions.
 *
 * A session is one sequence of tokens: prompts and answers in turn. Pass the whole conversation as the prompt each
 * time: what it has in common with the sequence so far is not computed again.
 */

/** A sequence of a model, and its drafter. */
typedef struct dovetail_session dovetail_session;

/** One message of a conversation. */
typedef struct {
  /** "system", "user" or "assistant", or, if the template knows them, "developer" or "tool"; and its length. */
  const char *role;
  /** See `role`. */
  size_t role_len;
  /** The text of the message, and its length. */
  const char *content;
  /** See `content`. */
  size_t content_len;
} dovetail_message;

/**
 * Creates a session and returns its handle in `session`. If `options` is NULL, those of the model apply; otherwise
 * `repack`, `no_mmap` and `mlock` have no effect, since the model is loaded. If a drafter that was not asked for
 * cannot be used, the session has none, and a line to `log` says so.
 */
dovetail_status dovetail_session_new(const dovetail_model *model,
                                     const dovetail_options *options,
                                     dovetail_session **session);

/**
 * Frees a session. A call in progress, on another thread or around the callback that calls this, is cancelled and ends
 * cleanly.
 */
void dovetail_session_free(dovetail_session *session);

/**
 * Renders a conversation with the chat template and makes it the sequence, so that the assistant's next message
 * follows. Texts of control tokens in messages stay text. If it returns DOVETAIL_CANCELLED, the sequence holds the tokens
 * run so far.
 */
dovetail_status dovetail_session_prompt_chat(dovetail_session *session,
                                             const dovetail_message *messages,
                                             size_t n_messages);

/**
 * Makes a text the sequence, for the model to complete. Texts of control tokens in it become those tokens. The token
 * that begins a text comes first, once, if the model wants it; no token that ends a text is added.
 */
dovetail_status dovetail_session_prompt_text(dovetail_session *session,
                                             const char *text,
                                             size_t text_len);

/**
 * Generates up to `n_predict` tokens after the sequence, SIZE_MAX for as many as the context holds, and passes each
 * piece to `callback`. Returns DOVETAIL_OK even if the callback stopped the answer; dovetail_session_get_stats says
 * why it ended. `sampling` and `callback` may be NULL.
 */
dovetail_status dovetail_session_generate(dovetail_session *session,
                                          const dovetail_sampling *sampling,
                                          size_t n_predict,
                                          dovetail_piece_callback callback,
                                          void *userdata);

/**
 * Cancels the call in progress, or else the next call that generates; that call soon returns DOVETAIL_CANCELLED. A
 * later prompt clears the cancellation. It may be called from any thread, any number of times. The session can then be
 * used as before, and the generated tokens are part of the sequence.
 */
dovetail_status dovetail_session_cancel(dovetail_session *session);

/**
 * Writes statistics to `stats`, whose size the caller has set. During another call with the session they are those so
 * far, without `drafter` and `stop`.
 */
dovetail_status dovetail_session_get_stats(dovetail_session *session,
                                           dovetail_stats *stats);

/**
 * Replaces the drafter of a session; `spec_type` "none" removes it. Only the drafting options of `options` apply; NULL
 * means those of the model. On failure the session is unchanged. The text is the same with any drafter unless
 * `spec_sampling` is "rejection".
 */
dovetail_status dovetail_session_speculate(dovetail_session *session,
                                           const dovetail_options *options);

/* ============================================================================================== */
/*
 * Sessions step by step: tokens instead of text, and pieces fetched one by one instead of passed to a callback.
 */

/** Makes tokens the sequence. Other than with dovetail_session_prompt_text, no tokens are added. */
dovetail_status dovetail_session_prompt_tokens(dovetail_session *session,
                                               const uint32_t *tokens,
                                               size_t n_tokens);

/** Copies the tokens of the sequence, prompt and answer, to a buffer, as dovetail_tokenize does. */
dovetail_status dovetail_session_get_tokens(dovetail_session *session,
                                            uint32_t *tokens,
                                            size_t capacity,
                                            size_t *n_tokens);

/**
 * Begins an answer of up to `n_predict` tokens, whose pieces dovetail_session_next or dovetail_step then return.
 * `sampling` may be NULL.
 */
dovetail_status dovetail_session_begin(dovetail_session *session,
                                       const dovetail_sampling *sampling,
                                       size_t n_predict);

/**
 * Returns the next piece of the answer in `piece`, valid until the next call with this session, or DOVETAIL_END if
 * there is none.
 */
dovetail_status dovetail_session_next(dovetail_session *session,
                                      const dovetail_piece **piece);

/* ============================================================================================== */
/*
 * Text and tokens.
 */

/**
 * Tokenizes a text into a buffer of `capacity` tokens. `n_tokens` is set to the number of tokens, even if they do not
 * fit and DOVETAIL_ERROR_BUFFER is returned. `add_special` adds the tokens that the model expects at the beginning and
 * the end. `parse_special` turns the texts of control tokens into those tokens; leave it false for text from outside.
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
 * Writes the text of tokens to a buffer of `capacity` bytes, without a NUL. `text_len` is set to its length in bytes,
 * even if it does not fit and DOVETAIL_ERROR_BUFFER is returned. The text may begin or end in the middle of a
 * character. Control tokens have no text unless `special` is true; numbers that are no tokens have none.
 */
dovetail_status dovetail_detokenize(const dovetail_model *model,
                                    const uint32_t *tokens,
                                    size_t n_tokens,
                                    bool special,
                                    char *text,
                                    size_t capacity,
                                    size_t *text_len);

/**
 * Writes the text of one token as it appears inside a text to a buffer, as dovetail_detokenize does. That function,
 * unlike this one, leaves out the space that some models put in front of a text.
 */
dovetail_status dovetail_token_text(const dovetail_model *model,
                                    uint32_t token,
                                    bool special,
                                    char *text,
                                    size_t capacity,
                                    size_t *text_len);

/**
 * Renders a conversation with a chat template into a buffer, as dovetail_detokenize does. `chat_template` is a name or
 * a Jinja template, or NULL for the model's. With `add_generation_prompt` the text ends where the assistant's message
 * begins. The text does not show which control tokens the template wrote and which a message contains: prompt a session
 * with dovetail_session_prompt_chat.
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
 * Several sessions in one step: one pass over the weights serves all of them, and each text is the one that its
 * session produces alone.
 */

/** Receives each piece of each answer, with the index of its session. Returns false to stop that answer there. */
typedef bool (*dovetail_step_callback)(void *userdata, size_t i, const dovetail_piece *piece);

/**
 * Runs one round for up to 16 sessions of one model whose answers have begun (dovetail_session_begin), and passes
 * their next pieces, one or more for each, to `callback`. Answers that have ended stay ended. If a session was
 * cancelled, or its logits are no numbers, its answer ends and the others go on; dovetail_session_get_stats says why,
 * and dovetail_last_error has the line of the latter. `goes_on` is set to whether any answer goes on.
 *
 * The pass runs with the threads of the session with the longest context. Among the sessions whose `tree` is "cost" or
 * "cast", the one with the longest context decides how large the trees are. If the round fails, no answer receives
 * another token, and dovetail_last_error returns the line for each session.
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
 * A file holds the sequence, its KV cache and the drafter's state, so that the next prompt or answer continues at
 * once. It can be moved to another machine, and from a drafter on a GPU to one on the CPU. Files of another model and
 * damaged files are refused with a reason.
 */

/**
 * Saves a session. An existing regular file is replaced once the new one is complete, and keeps its permissions; a new
 * file can be read by its owner only. A symbolic link stays and its target is replaced. Anything else is refused.
 */
dovetail_status dovetail_session_save(dovetail_session *session,
                                      const char *path);

/**
 * Restores a saved sequence into a session, which keeps its drafter. Returns DOVETAIL_ERROR_SESSION_FILE if it was
 * saved with another model or other cache types, has more tokens than the context holds, or is damaged; the session is
 * then unchanged. An answer in progress ends.
 */
dovetail_status dovetail_session_load(dovetail_session *session,
                                      const char *path);

#ifdef __cplusplus
}
#endif

#endif /* DOVETAIL_H */
