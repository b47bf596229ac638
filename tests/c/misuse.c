/* misuse MODEL FOLDER: every function with NULL, with lengths of zero, sizes that are wrong, handles that are freed or of
 * another kind, and out of its callbacks. Nothing of it may do more than return a status. */
#include <stddef.h>
#include "expect.h"

static dovetail_options options;
static int lines, parts;
static bool refuses;

static void count_line(void *userdata, dovetail_log_level level, const char *line) {
    CHECK(userdata == &lines);
    CHECK(level == DOVETAIL_LOG_NOTE || level == DOVETAIL_LOG_DETAIL);
    CHECK(strchr(line, '\n') == NULL);
    lines++;
}

static bool count_part(void *userdata, dovetail_stage stage, double part) {
    CHECK(userdata == &lines);
    CHECK((int)stage <= DOVETAIL_STAGE_PROMPT && part >= 0 && part <= 1);
    parts++;
    return !refuses;
}

static bool refuse_part(void *userdata, dovetail_stage stage, double part) {
    (void)userdata, (void)stage, (void)part;
    return false;
}

/* What a callback does with the session whose answer it is told. */
typedef enum { JUST_COUNT, CALL_AGAIN, CANCEL, FREE } deed;

typedef struct {
    dovetail_session *session;
    dovetail_model *model;
    int pieces;
    int ends_after;
    deed what;
} watcher;

static bool watch(void *userdata, const dovetail_piece *piece) {
    watcher *w = (watcher *)userdata;
    dovetail_stats stats;
    const dovetail_piece *next = NULL;
    CHECK(piece->size == sizeof *piece && strlen(piece->text) == piece->text_len);
    stats.size = sizeof stats;
    w->pieces++;
    switch (w->what) {
        case JUST_COUNT:
            break;
        case CALL_AGAIN:
            EXPECT(DOVETAIL_ERROR_BUSY, dovetail_session_next(w->session, &next));
            stats.size = sizeof stats;
            OK(dovetail_session_get_stats(w->session, &stats));
            CHECK(stats.predicted_n > 0 && stats.n_ctx > 0 && stats.drafter == NULL);
            EXPECT(DOVETAIL_ERROR_BUSY, dovetail_session_generate(w->session, NULL, 1, watch, w));
            CHECK(strstr(dovetail_last_error(w->session), "in the middle") != NULL);
            break;
        case CANCEL:
            OK(dovetail_session_cancel(w->session));
            OK(dovetail_session_cancel(w->session));
            break;
        case FREE:
            dovetail_session_free(w->session);
            dovetail_session_free(w->session);
            dovetail_model_free(w->model);
            EXPECT(DOVETAIL_ERROR_HANDLE, dovetail_session_cancel(w->session));
            break;
    }
    return w->pieces != w->ends_after;
}

static bool watch_step(void *userdata, size_t i, const dovetail_piece *piece) {
    CHECK(i < 2);
    return watch((watcher *)userdata + i, piece);
}

/* Structures and what fills them. */
static void sizes(void) {
    dovetail_sampling sampling;
    char room[sizeof options + 64];
    dovetail_options *later = (dovetail_options *)(void *)room;
    OK(dovetail_options_init(&options, sizeof options));
    CHECK(options.size == sizeof options && options.progress == NULL && options.threads == 0);
    OK(dovetail_sampling_init(&sampling, sizeof sampling));
    CHECK(sampling.top_k == 40 && sampling.seed == 0);
    EXPECT(DOVETAIL_ERROR_ARGUMENT, dovetail_options_init(NULL, sizeof options));
    EXPECT(DOVETAIL_ERROR_ARGUMENT, dovetail_options_init(&options, 0));
    EXPECT(DOVETAIL_ERROR_ARGUMENT, dovetail_options_init(&options, offsetof(dovetail_options, draft_p_min)));
    EXPECT(DOVETAIL_ERROR_ARGUMENT, dovetail_options_init(&options, SIZE_MAX));
    EXPECT(DOVETAIL_ERROR_ARGUMENT, dovetail_sampling_init(NULL, sizeof sampling));
    EXPECT(DOVETAIL_ERROR_ARGUMENT, dovetail_sampling_init(&sampling, 7));
    CHECK(options.size == sizeof options && sampling.size == sizeof sampling);
    /* A program of a later version has more fields: at their defaults they are zero. */
    memset(room, 0x7f, sizeof room);
    OK(dovetail_options_init(later, sizeof room));
    CHECK(later->size == sizeof room && room[sizeof room - 1] == 0);
}

/* What belongs to no handle. */
static void without_handles(void) {
    int i;
    CHECK(strcmp(dovetail_version(), DOVETAIL_VERSION) == 0);
    CHECK(dovetail_has_feature("scalar") && !dovetail_has_feature("warp drive"));
    CHECK(!dovetail_has_feature(NULL) && !dovetail_has_feature("") && !dovetail_has_feature("\xff"));
    for (i = -3; i < 100; i++) CHECK(strlen(dovetail_status_string(i)) > 1);
    CHECK(dovetail_last_error(NULL) != NULL && dovetail_last_error(&i) != NULL);
}

/* Models that cannot be loaded. */
static void loading(const char *path) {
    dovetail_model *model = (dovetail_model *)&options;
    dovetail_options wrong = options;
    char room[sizeof options + 8];
    EXPECT(DOVETAIL_ERROR_ARGUMENT, dovetail_model_load(NULL, NULL, &model));
    EXPECT(DOVETAIL_ERROR_ARGUMENT, dovetail_model_load("", NULL, &model));
    EXPECT(DOVETAIL_ERROR_ARGUMENT, dovetail_model_load(path, NULL, NULL));
    EXPECT(DOVETAIL_ERROR_IO, dovetail_model_load("/nonexistent/\xff.gguf", NULL, &model));
    EXPECT(DOVETAIL_ERROR_MODEL, dovetail_model_load("/", NULL, &model));
    wrong.size = 3;
    EXPECT(DOVETAIL_ERROR_ARGUMENT, dovetail_model_load(path, &wrong, &model));
    CHECK(strstr(dovetail_last_error(NULL), "sizeof") != NULL);
    wrong.size = SIZE_MAX;
    EXPECT(DOVETAIL_ERROR_ARGUMENT, dovetail_model_load(path, &wrong, &model));
    memset(room, 0, sizeof room);
    memcpy(room, &options, sizeof options);
    ((dovetail_options *)(void *)room)->size = sizeof room;
    room[sizeof options + 3] = 1; /* what no version knows yet */
    EXPECT(DOVETAIL_ERROR_ARGUMENT, dovetail_model_load(path, (dovetail_options *)(void *)room, &model));
    EXPECT(DOVETAIL_ERROR_ARGUMENT,
           dovetail_model_load(path, (const dovetail_options *)(const void *)(room + 1), &model));
    wrong = options;
    memset(&wrong.mlock, 2, 1);
    EXPECT(DOVETAIL_ERROR_ARGUMENT, dovetail_model_load(path, &wrong, &model));
#define WRONG(field, value)                                                      \
    wrong = options;                                                             \
    wrong.field = value;                                                         \
    EXPECT(DOVETAIL_ERROR_ARGUMENT, dovetail_model_load(path, &wrong, &model));  \
    CHECK(strstr(dovetail_last_error(NULL), #field) != NULL)
    WRONG(repack, "sideways");
    WRONG(cache_type_k, "q1");
    WRONG(cache_type_v, "");
    WRONG(spec_type, "magic");
    WRONG(tree, "oak:3");
    WRONG(spec_sampling, "at will");
    WRONG(draft_device, "gpuu");
    WRONG(draft_p_min, 2);
    WRONG(draft_n_max, 64);
    WRONG(threads, 5000);
    WRONG(n_ubatch, 1 << 20);
    WRONG(n_together, 17);
    wrong = options;
    wrong.chat_template = "no such template";
    EXPECT(DOVETAIL_ERROR_ARGUMENT, dovetail_model_load(path, &wrong, &model));
    wrong.chat_template = "{{ broken";
    EXPECT(DOVETAIL_ERROR_TEMPLATE, dovetail_model_load(path, &wrong, &model));
    wrong.chat_template = "\xff";
    EXPECT(DOVETAIL_ERROR_ARGUMENT, dovetail_model_load(path, &wrong, &model));
    wrong = options;
    wrong.progress = refuse_part;
    EXPECT(DOVETAIL_CANCELLED, dovetail_model_load(path, &wrong, &model));
    CHECK(model == (dovetail_model *)&options); /* nothing was handed out */
}

/* Text to tokens and back, in buffers of every size. */
static void tokens(dovetail_model *model) {
    static const char text[] = "Gr\xc3\xbc\xc3\x9f Gott, 你好 <|im_end|>";
    dovetail_message messages[] = {{"user", 4, "Hi", 2}, {"assistant", 9, NULL, 0}};
    uint32_t ids[64];
    char back[256];
    size_t n = 0, len = 0, needed, i;
    OK(dovetail_tokenize(model, text, sizeof text - 1, false, false, ids, 64, &n));
    needed = n;
    for (i = 0; i < needed; i++) {
        ids[i] = 12345;
        EXPECT(DOVETAIL_ERROR_BUFFER,
               dovetail_tokenize(model, text, sizeof text - 1, false, false, ids, i, &n));
        CHECK(n == needed && ids[i] == 12345);
    }
    EXPECT(DOVETAIL_ERROR_BUFFER, dovetail_tokenize(model, text, 4, false, false, NULL, 0, &n));
    OK(dovetail_tokenize(model, text, sizeof text - 1, false, false, ids, needed, &n));
    OK(dovetail_detokenize(model, ids, n, false, back, sizeof back, &len));
    CHECK(len == sizeof text - 1 && memcmp(text, back, len) == 0);
    EXPECT(DOVETAIL_ERROR_BUFFER, dovetail_detokenize(model, ids, n, false, back, len - 1, &len));
    CHECK(len == sizeof text - 1);
    OK(dovetail_tokenize(model, NULL, 0, false, false, NULL, 0, &n));
    CHECK(n == 0);
    OK(dovetail_detokenize(model, NULL, 0, true, NULL, 0, &len));
    CHECK(len == 0);
    EXPECT(DOVETAIL_ERROR_ARGUMENT, dovetail_tokenize(model, NULL, 1, false, false, ids, 64, &n));
    EXPECT(DOVETAIL_ERROR_ARGUMENT, dovetail_tokenize(model, text, SIZE_MAX, false, false, ids, 64, &n));
    EXPECT(DOVETAIL_ERROR_ARGUMENT, dovetail_tokenize(model, "\xff", 1, false, false, ids, 64, &n));
    EXPECT(DOVETAIL_ERROR_ARGUMENT, dovetail_tokenize(model, text, 4, false, false, NULL, 64, &n));
    EXPECT(DOVETAIL_ERROR_ARGUMENT, dovetail_tokenize(model, text, 4, false, false, ids, 64, NULL));
    EXPECT(DOVETAIL_ERROR_ARGUMENT,
           dovetail_tokenize(model, text, 4, false, false, (uint32_t *)(void *)(back + 1), 9, &n));
    EXPECT(DOVETAIL_ERROR_ARGUMENT, dovetail_detokenize(model, NULL, 3, false, back, 256, &len));
    EXPECT(DOVETAIL_ERROR_ARGUMENT, dovetail_detokenize(model, ids, 1, false, NULL, 256, &len));
    EXPECT(DOVETAIL_ERROR_ARGUMENT, dovetail_detokenize(model, ids, SIZE_MAX / 2, false, back, 256, &len));
    ids[0] = UINT32_MAX;
    OK(dovetail_detokenize(model, ids, 1, true, back, sizeof back, &len));
    CHECK(len == 0);
    OK(dovetail_tokenize(model, " the", 4, false, false, ids, 64, &n));
    CHECK(n == 1);
    OK(dovetail_token_text(model, ids[0], false, back, sizeof back, &len));
    CHECK(len == 4 && memcmp(back, " the", 4) == 0);
    EXPECT(DOVETAIL_ERROR_BUFFER, dovetail_token_text(model, ids[0], false, back, 3, &len));
    EXPECT(DOVETAIL_ERROR_ARGUMENT, dovetail_token_text(model, ids[0], false, NULL, 3, &len));
    OK(dovetail_apply_chat_template(model, NULL, messages, 2, true, back, sizeof back, &len));
    CHECK(len > 20);
    OK(dovetail_apply_chat_template(model, "llama2", messages, 1, true, back, sizeof back, &len));
    OK(dovetail_apply_chat_template(model, "{{ messages | length }}", NULL, 0, true, back, 1, &len));
    CHECK(len == 1 && back[0] == '0');
    EXPECT(DOVETAIL_ERROR_ARGUMENT,
           dovetail_apply_chat_template(model, "nobody's", messages, 2, true, back, 9, &len));
    EXPECT(DOVETAIL_ERROR_TEMPLATE,
           dovetail_apply_chat_template(model, "{{ raise_exception('no') }}", messages, 2, true, back, 9, &len));
    EXPECT(DOVETAIL_ERROR_BUFFER,
           dovetail_apply_chat_template(model, NULL, messages, 2, true, back, 3, &len));
    messages[1].content_len = 7;
    EXPECT(DOVETAIL_ERROR_ARGUMENT,
           dovetail_apply_chat_template(model, NULL, messages, 2, true, back, sizeof back, &len));
    messages[0].role = NULL;
    EXPECT(DOVETAIL_ERROR_ARGUMENT,
           dovetail_apply_chat_template(model, NULL, messages, 1, true, back, sizeof back, &len));
    EXPECT(DOVETAIL_ERROR_ARGUMENT,
           dovetail_apply_chat_template(model, NULL, NULL, 2, true, back, sizeof back, &len));
}

/* Every function with a handle that is none, or of another kind. */
static void handles(void *wrong) {
    dovetail_model *model = (dovetail_model *)wrong;
    dovetail_session *session = (dovetail_session *)wrong, *new_session = NULL, *two[2];
    dovetail_message message = {"user", 4, "Hi", 2};
    dovetail_model_info info;
    dovetail_stats stats;
    const dovetail_piece *piece = NULL;
    uint32_t id = 1;
    size_t n;
    char text[9];
    bool goes_on;
    info.size = sizeof info;
    stats.size = sizeof stats;
#define REFUSED(call) EXPECT(DOVETAIL_ERROR_HANDLE, call)
    REFUSED(dovetail_model_get_info(model, &info));
    REFUSED(dovetail_session_new(model, NULL, &new_session));
    REFUSED(dovetail_tokenize(model, "x", 1, false, false, &id, 1, &n));
    REFUSED(dovetail_detokenize(model, &id, 1, false, text, 9, &n));
    REFUSED(dovetail_token_text(model, 1, true, text, 9, &n));
    REFUSED(dovetail_apply_chat_template(model, NULL, &message, 1, true, text, 9, &n));
    REFUSED(dovetail_session_prompt_chat(session, &message, 1));
    REFUSED(dovetail_session_prompt_text(session, "x", 1));
    REFUSED(dovetail_session_prompt_tokens(session, &id, 1));
    REFUSED(dovetail_session_generate(session, NULL, 1, NULL, NULL));
    REFUSED(dovetail_session_begin(session, NULL, 1));
    REFUSED(dovetail_session_next(session, &piece));
    REFUSED(dovetail_session_cancel(session));
    REFUSED(dovetail_session_get_stats(session, &stats));
    REFUSED(dovetail_session_get_tokens(session, &id, 1, &n));
    REFUSED(dovetail_session_speculate(session, NULL));
    REFUSED(dovetail_session_save(session, "x"));
    REFUSED(dovetail_session_load(session, "x"));
    two[0] = two[1] = session;
    REFUSED(dovetail_step(two, 2, NULL, NULL, &goes_on));
    CHECK(new_session == NULL && piece == NULL);
    CHECK(strstr(dovetail_last_error(wrong), "handle") != NULL);
}

/* A session's functions, with what cannot be. */
static void arguments(dovetail_session *session, dovetail_model *model) {
    dovetail_message message = {"user", 4, "\xc3", 1}, bot = {"bot", 3, "Hi", 2};
    dovetail_sampling sampling;
    dovetail_model_info info;
    dovetail_stats stats;
    dovetail_options wrong = options;
    watcher w = {NULL, NULL, 0, -1, JUST_COUNT};
    dovetail_session *none = NULL;
    uint32_t ids[4] = {1, 2, UINT32_MAX, 4};
    size_t n;
    memset(&info, 0, sizeof info);
    memset(&stats, 0, sizeof stats);
    OK(dovetail_sampling_init(&sampling, sizeof sampling));
    /* Nothing was prompted yet. */
    EXPECT(DOVETAIL_ERROR_PROMPT, dovetail_session_generate(session, NULL, 5, watch, &w));
    EXPECT(DOVETAIL_ERROR_ARGUMENT, dovetail_session_prompt_chat(session, &message, 1));
    EXPECT(DOVETAIL_ERROR_ARGUMENT, dovetail_session_prompt_chat(session, NULL, 1));
    EXPECT(DOVETAIL_ERROR_ARGUMENT, dovetail_session_prompt_chat(session, &message, SIZE_MAX));
    EXPECT(DOVETAIL_ERROR_PROMPT, dovetail_session_prompt_chat(session, NULL, 0));
    EXPECT(DOVETAIL_ERROR_PROMPT, dovetail_session_prompt_chat(session, &bot, 0));
    EXPECT(DOVETAIL_ERROR_ARGUMENT, dovetail_session_prompt_chat(session, &bot, 1));
    CHECK(strstr(dovetail_last_error(session), "\"bot\" is no role") != NULL);
    EXPECT(DOVETAIL_ERROR_ARGUMENT,
           dovetail_apply_chat_template(model, NULL, &bot, 1, true, NULL, 0, &n));
    bot.role_len = 0;
    EXPECT(DOVETAIL_ERROR_ARGUMENT, dovetail_session_prompt_chat(session, &bot, 1));
    EXPECT(DOVETAIL_ERROR_ARGUMENT, dovetail_session_prompt_text(session, NULL, 3));
    CHECK(strstr(dovetail_last_error(session), "the text is NULL, but its length is 3") != NULL);
    EXPECT(DOVETAIL_ERROR_PROMPT, dovetail_session_prompt_text(session, NULL, 0));
    EXPECT(DOVETAIL_ERROR_PROMPT, dovetail_session_prompt_tokens(session, NULL, 0));
    EXPECT(DOVETAIL_ERROR_ARGUMENT, dovetail_session_prompt_tokens(session, NULL, 2));
    CHECK(strstr(dovetail_last_error(session), "the array of tokens is NULL, but its length is 2") != NULL);
    EXPECT(DOVETAIL_ERROR_ARGUMENT, dovetail_session_prompt_tokens(session, ids, 4));
    EXPECT(DOVETAIL_ERROR_ARGUMENT, dovetail_session_get_tokens(session, ids, 4, NULL));
    EXPECT(DOVETAIL_ERROR_ARGUMENT, dovetail_session_get_tokens(session, NULL, 4, &n));
    CHECK(strstr(dovetail_last_error(session), "the buffer for the tokens is NULL, but its capacity is 4") != NULL);
    EXPECT(DOVETAIL_ERROR_ARGUMENT, dovetail_session_get_stats(session, NULL));
    EXPECT(DOVETAIL_ERROR_ARGUMENT, dovetail_session_get_stats(session, &stats));
    EXPECT(DOVETAIL_ERROR_ARGUMENT, dovetail_model_get_info(model, NULL));
    EXPECT(DOVETAIL_ERROR_ARGUMENT, dovetail_model_get_info(model, &info));
    EXPECT(DOVETAIL_ERROR_ARGUMENT, dovetail_session_next(session, NULL));
    CHECK(strstr(dovetail_last_error(session), "piece is NULL; give a place for it") != NULL);
    EXPECT(DOVETAIL_ERROR_ARGUMENT, dovetail_session_new(model, NULL, NULL));
    EXPECT(DOVETAIL_ERROR_ARGUMENT, dovetail_session_save(session, NULL));
    CHECK(strstr(dovetail_last_error(session), "path is NULL") != NULL);
    EXPECT(DOVETAIL_ERROR_IO, dovetail_session_save(session, "/nonexistent/a.session"));
    EXPECT(DOVETAIL_ERROR_ARGUMENT, dovetail_session_load(session, ""));
    EXPECT(DOVETAIL_ERROR_IO, dovetail_session_load(session, "/nonexistent/a.session"));
    wrong.n_ctx = UINT32_MAX;
    EXPECT(DOVETAIL_ERROR_ARGUMENT, dovetail_session_new(model, &wrong, &none));
    CHECK(none == NULL);
    wrong = options;
    wrong.model_draft = "/nonexistent/drafter.gguf";
    EXPECT(DOVETAIL_ERROR_IO, dovetail_session_speculate(session, &wrong));
    wrong.size = 1;
    EXPECT(DOVETAIL_ERROR_ARGUMENT, dovetail_session_speculate(session, &wrong));
    OK(dovetail_session_prompt_text(session, "One, two,", 9));
    OK(dovetail_session_generate(session, &sampling, 0, NULL, NULL));
#define OUT_OF_RANGE(field, value)                                                                \
    OK(dovetail_sampling_init(&sampling, sizeof sampling));                                       \
    sampling.field = value;                                                                       \
    EXPECT(DOVETAIL_ERROR_ARGUMENT, dovetail_session_generate(session, &sampling, 5, watch, &w)); \
    CHECK(strncmp(dovetail_last_error(session), #field " ", sizeof #field) == 0);                 \
    EXPECT(DOVETAIL_ERROR_ARGUMENT, dovetail_session_begin(session, &sampling, 5))
    OUT_OF_RANGE(temperature, -1);
    OUT_OF_RANGE(temperature, strtof("nan", NULL));
    OUT_OF_RANGE(top_p, 2);
    OUT_OF_RANGE(top_p, -0.5f);
    OUT_OF_RANGE(min_p, 5);
    OUT_OF_RANGE(min_p, -1);
    OUT_OF_RANGE(repeat_penalty, 0);
    OUT_OF_RANGE(repeat_penalty, -2);
    OUT_OF_RANGE(repeat_last_n, -5);
    OUT_OF_RANGE(presence_penalty, strtof("inf", NULL));
    OUT_OF_RANGE(frequency_penalty, strtof("-inf", NULL));
#define NO_SENSE(field, value)                                              \
    OK(dovetail_sampling_init(&sampling, sizeof sampling));                 \
    sampling.field = value;                                                 \
    EXPECT(DOVETAIL_ERROR_ARGUMENT, dovetail_session_begin(session, &sampling, 5))
    NO_SENSE(n_stop, 1);
    NO_SENSE(n_logit_bias, 3);
    NO_SENSE(drafting, 7);
    sampling.size = 5;
    EXPECT(DOVETAIL_ERROR_ARGUMENT, dovetail_session_begin(session, &sampling, 5));
    CHECK(w.pieces == 0);
    stats.size = sizeof stats;
    OK(dovetail_session_get_stats(session, &stats));
    CHECK(stats.predicted_n == 0 && stats.stop == DOVETAIL_STOP_LENGTH && stats.size == sizeof stats);
    info.size = sizeof info;
    OK(dovetail_model_get_info(model, &info));
    CHECK(info.token_eos >= 0 && info.token_eot >= -1 && info.token_bos >= -1);
    CHECK(info.has_chat_template && strlen(info.name) > 0 && strcmp(info.architecture, "llama") == 0);
}

/* Bias, log-probabilities, a stop text. */
static void asked(dovetail_session *session) {
    dovetail_sampling sampling;
    dovetail_stats stats;
    const dovetail_piece *piece;
    const char *stop[] = {"four"};
    dovetail_logit_bias bias;
    OK(dovetail_sampling_init(&sampling, sizeof sampling));
    sampling.temperature = 0;
    sampling.grammar = "{\"enum\": [\"red\"]}";
    OK(dovetail_session_begin(session, &sampling, 9));
    OK(dovetail_session_next(session, &piece));
    CHECK(piece->text_len > 0 && piece->text[0] == '"');
    sampling.grammar_type = DOVETAIL_GRAMMAR_GBNF;
    EXPECT(DOVETAIL_ERROR_ARGUMENT, dovetail_session_begin(session, &sampling, 9));
    CHECK(strstr(dovetail_last_error(session), "GBNF") != NULL);
    sampling.grammar_type = 99;
    EXPECT(DOVETAIL_ERROR_ARGUMENT, dovetail_session_begin(session, &sampling, 9));
    CHECK(strstr(dovetail_last_error(session), "grammar_type is 99") != NULL);
    sampling.grammar = NULL;
    sampling.logprobs = true;
    sampling.n_top_logprobs = 2;
    OK(dovetail_session_begin(session, &sampling, 3));
    OK(dovetail_session_next(session, &piece));
    CHECK(piece->has_logprob && piece->n_top == 2 && piece->top[0].token == piece->token);
    CHECK(piece->logprob == piece->top[0].logprob && piece->top[1].logprob <= piece->logprob);
    bias.token = piece->token;
    bias.bias = strtof("-inf", NULL);
    sampling.logit_bias = &bias;
    sampling.n_logit_bias = 1;
    sampling.logprobs = false;
    sampling.drafting = DOVETAIL_DRAFTING_OFF;
    sampling.stop = stop;
    sampling.n_stop = 1;
    OK(dovetail_session_prompt_text(session, "One, two, three,", 16));
    OK(dovetail_session_begin(session, &sampling, 3));
    OK(dovetail_session_next(session, &piece));
    CHECK(!piece->has_logprob && piece->token != bias.token);
    bias.bias = strtof("inf", NULL);
    OK(dovetail_session_begin(session, &sampling, 3));
    OK(dovetail_session_next(session, &piece));
    CHECK(piece->token == bias.token);
    sampling.n_logit_bias = 0;
    OK(dovetail_session_prompt_text(session, "One, two, three,", 16));
    OK(dovetail_session_generate(session, &sampling, 5, NULL, NULL));
    stats.size = sizeof stats;
    OK(dovetail_session_get_stats(session, &stats));
    CHECK(stats.stop == DOVETAIL_STOP_TEXT && stats.draft_n == 0);
}

/* Another drafter, a cancelled prompt, tokens in place of text. */
static void changes(dovetail_session *session) {
    dovetail_options other = options;
    dovetail_stats stats;
    uint32_t ids[64], more[64];
    size_t n, n_more;
    stats.size = sizeof stats;
    other.spec_type = "ngram";
    other.tree = "chain:3";
    OK(dovetail_session_speculate(session, &other));
    OK(dovetail_session_get_stats(session, &stats));
    CHECK(stats.drafter != NULL && strstr(stats.drafter, "ngram") != NULL);
    OK(dovetail_session_prompt_text(session, "One, two, three,", 16));
    asked(session);
    OK(dovetail_session_prompt_text(session, "One, two, three,", 16));
    OK(dovetail_session_generate(session, NULL, 5, NULL, NULL));
    OK(dovetail_session_get_tokens(session, ids, 64, &n));
    other.spec_type = "none";
    OK(dovetail_session_speculate(session, &other));
    OK(dovetail_session_get_stats(session, &stats));
    CHECK(stats.drafter == NULL);
    OK(dovetail_session_prompt_tokens(session, ids, n - 5));
    OK(dovetail_session_generate(session, NULL, 5, NULL, NULL));
    OK(dovetail_session_get_tokens(session, more, 64, &n_more));
    CHECK(n == n_more && memcmp(ids, more, n * sizeof *ids) == 0); /* no drafter, the same text */
    other = options;
    OK(dovetail_session_speculate(session, &other));
    /* A prompt that is cancelled has been, and what follows is not. */
    refuses = true;
    EXPECT(DOVETAIL_CANCELLED, dovetail_session_prompt_text(session, "Four, five,", 11));
    refuses = false;
    OK(dovetail_session_prompt_text(session, "Four, five,", 11));
    OK(dovetail_session_generate(session, NULL, 2, NULL, NULL));
    OK(dovetail_session_get_stats(session, &stats));
    CHECK(stats.predicted_n == 2 && stats.stop == DOVETAIL_STOP_LENGTH);
}

/* Answers that are stopped, cancelled, or whose session is freed, from inside. */
static void callbacks(dovetail_model *model, dovetail_session *session) {
    watcher w = {session, NULL, 0, 3, JUST_COUNT};
    dovetail_session *other = NULL;
    dovetail_stats stats;
    const dovetail_piece *piece = NULL;
    uint64_t n_tokens;
    stats.size = sizeof stats;
    OK(dovetail_session_prompt_text(session, "One, two, three,", 16));
    OK(dovetail_session_generate(session, NULL, 30, watch, &w));
    OK(dovetail_session_get_stats(session, &stats));
    CHECK(w.pieces == 3 && stats.stop == DOVETAIL_STOP_CALLBACK);
    EXPECT(DOVETAIL_END, dovetail_session_next(session, &piece)); /* it has ended, twice */
    EXPECT(DOVETAIL_END, dovetail_session_next(session, &piece));
    w.ends_after = -1;
    w.what = CALL_AGAIN;
    OK(dovetail_session_generate(session, NULL, 4, watch, &w));
    w.what = CANCEL;
    EXPECT(DOVETAIL_CANCELLED, dovetail_session_generate(session, NULL, 30, watch, &w));
    OK(dovetail_session_get_stats(session, &stats));
    CHECK(stats.stop == DOVETAIL_STOP_CANCELLED);
    n_tokens = stats.n_tokens;
    /* A cancel counts once, for what is under way or comes next; a prompt forgets it. */
    OK(dovetail_session_begin(session, NULL, 9));
    OK(dovetail_session_next(session, &piece));
    OK(dovetail_session_cancel(session));
    EXPECT(DOVETAIL_CANCELLED, dovetail_session_next(session, &piece));
    EXPECT(DOVETAIL_END, dovetail_session_next(session, &piece));
    OK(dovetail_session_get_stats(session, &stats));
    CHECK(stats.n_tokens == n_tokens + 1);
    OK(dovetail_session_cancel(session));
    OK(dovetail_session_prompt_text(session, "One, two,", 9));
    w.what = JUST_COUNT;
    OK(dovetail_session_generate(session, NULL, 4, watch, &w));
    OK(dovetail_session_new(model, NULL, &other));
    OK(dovetail_session_prompt_text(other, "One, two,", 9));
    w.what = FREE;
    w.session = other;
    EXPECT(DOVETAIL_CANCELLED, dovetail_session_generate(other, NULL, 30, watch, &w));
    handles(other);
}

/* Several sessions in one step. */
static void steps(dovetail_model *model) {
    dovetail_session *two[3] = {NULL, NULL, NULL};
    watcher w[2];
    dovetail_stats stats;
    bool goes_on = true;
    int i;
    memset(w, 0, sizeof w);
    stats.size = sizeof stats;
    for (i = 0; i < 2; i++) {
        OK(dovetail_session_new(model, NULL, &two[i]));
        EXPECT(DOVETAIL_ERROR_PROMPT, dovetail_step(&two[i], 1, watch_step, w, &goes_on));
        OK(dovetail_session_prompt_text(two[i], "One, two,", 9));
        OK(dovetail_session_begin(two[i], NULL, 20));
        w[i].session = two[i];
        w[i].ends_after = -1;
    }
    EXPECT(DOVETAIL_ERROR_ARGUMENT, dovetail_step(NULL, 2, watch_step, w, &goes_on));
    EXPECT(DOVETAIL_ERROR_ARGUMENT, dovetail_step(two, 2, watch_step, w, NULL));
    EXPECT(DOVETAIL_ERROR_ARGUMENT, dovetail_step(two, SIZE_MAX, watch_step, w, &goes_on));
    EXPECT(DOVETAIL_ERROR_HANDLE, dovetail_step(two, 3, watch_step, w, &goes_on));
    two[2] = two[0];
    EXPECT(DOVETAIL_ERROR_BUSY, dovetail_step(two, 3, watch_step, w, &goes_on));
    OK(dovetail_step(NULL, 0, watch_step, w, &goes_on));
    CHECK(!goes_on && w[0].pieces == 0);
    w[0].ends_after = 2;
    w[1].what = CALL_AGAIN;
    do OK(dovetail_step(two, 2, watch_step, w, &goes_on));
    while (goes_on);
    CHECK(w[0].pieces == 2 && w[1].pieces >= 20);
    OK(dovetail_session_get_stats(two[0], &stats));
    CHECK(stats.stop == DOVETAIL_STOP_CALLBACK);
    OK(dovetail_session_get_stats(two[1], &stats));
    CHECK(stats.stop == DOVETAIL_STOP_LENGTH && stats.predicted_n == 20);
    /* One that is cancelled ends, the other goes on. */
    for (i = 0; i < 2; i++) OK(dovetail_session_begin(two[i], NULL, 5));
    OK(dovetail_session_cancel(two[0]));
    w[1].what = JUST_COUNT;
    do OK(dovetail_step(two, 2, NULL, NULL, &goes_on));
    while (goes_on);
    OK(dovetail_session_get_stats(two[0], &stats));
    CHECK(stats.stop == DOVETAIL_STOP_CANCELLED);
    OK(dovetail_session_get_stats(two[1], &stats));
    CHECK(stats.stop == DOVETAIL_STOP_LENGTH);
    dovetail_session_free(two[0]);
    dovetail_session_free(two[1]);
}

/* A session goes on from a file. */
static void files(dovetail_model *model, dovetail_session *session, const char *folder) {
    dovetail_session *other = NULL;
    dovetail_options types = options;
    char path[4096], texts[2][4096];
    const dovetail_piece *piece;
    FILE *file;
    int i;
    CHECK(snprintf(path, sizeof path, "%s/a.session", folder) < (int)sizeof path);
    OK(dovetail_session_prompt_text(session, "One, two, three,", 16));
    OK(dovetail_session_generate(session, NULL, 9, NULL, NULL));
    OK(dovetail_session_save(session, path));
    OK(dovetail_session_new(model, NULL, &other));
    OK(dovetail_session_load(other, path));
    for (i = 0; i < 2; i++) {
        dovetail_session *one = i == 0 ? session : other;
        texts[i][0] = '\0';
        OK(dovetail_session_begin(one, NULL, 12));
        while (dovetail_session_next(one, &piece) == DOVETAIL_OK) strcat(texts[i], piece->text);
    }
    CHECK(texts[0][0] != '\0' && strcmp(texts[0], texts[1]) == 0);
    dovetail_session_free(other);
    types.cache_type_v = "q8_0";
    OK(dovetail_session_new(model, &types, &other));
    EXPECT(DOVETAIL_ERROR_SESSION_FILE, dovetail_session_load(other, path));
    dovetail_session_free(other);
    file = fopen(path, "r+b");
    CHECK(file != NULL && fseek(file, 100, SEEK_SET) == 0 && fputc(0x55, file) != EOF && fclose(file) == 0);
    EXPECT(DOVETAIL_ERROR_SESSION_FILE, dovetail_session_load(session, path));
    CHECK(strstr(dovetail_last_error(session), "damaged") != NULL);
    remove(path);
}

int main(int argc, char **argv) {
    dovetail_model *model = NULL;
    dovetail_session *session = NULL;
    CHECK(argc == 3);
    sizes();
    without_handles();
    handles(NULL);
    handles(&options);
    options.userdata = &lines;
    options.threads = 2;
    options.n_ctx = 512;
    loading(argv[1]);
    options.log = count_line;
    options.progress = count_part;
    OK(dovetail_model_load(argv[1], &options, &model));
    CHECK(lines > 0 && parts > 0);
    handles((void *)((char *)model + 16)); /* never handed out */
    tokens(model);
    OK(dovetail_session_new(model, NULL, &session));
    dovetail_model_free((dovetail_model *)(void *)session); /* of another kind: they stay */
    dovetail_session_free((dovetail_session *)(void *)model);
    EXPECT(DOVETAIL_ERROR_HANDLE, dovetail_session_cancel((dovetail_session *)(void *)model));
    EXPECT(DOVETAIL_ERROR_HANDLE, dovetail_tokenize((dovetail_model *)(void *)session, NULL, 0, false, false, NULL, 0, NULL));
    arguments(session, model);
    changes(session);
    steps(model);
    callbacks(model, session);
    files(model, session, argv[2]);
    /* The session keeps what it needs of the model. */
    dovetail_model_free(model);
    dovetail_model_free(model);
    dovetail_model_free(NULL);
    OK(dovetail_session_prompt_text(session, "One, two, three,", 16));
    OK(dovetail_session_generate(session, NULL, 3, NULL, NULL));
    dovetail_session_free(session);
    dovetail_session_free(session);
    dovetail_session_free(NULL);
    handles(session);
    puts("ok");
    return 0;
}
