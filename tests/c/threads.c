/* threads MODEL: sessions of one model on threads of their own, while others are made, cancelled and freed. */
#include "expect.h"
#include <pthread.h>

enum { ANSWERS = 3, N_PREDICT = 24 };

/* A session whose answers another thread ends. */
typedef struct {
    dovetail_session *session;
    pthread_mutex_t lock;
    bool ended;
} endless;

static dovetail_model *model;
static char expected[4096];

static bool append(void *userdata, const dovetail_piece *piece) {
    strcat((char *)userdata, piece->text);
    return true;
}

static void answer(dovetail_session *session, char *text) {
    text[0] = '\0';
    OK(dovetail_session_prompt_text(session, "One, two, three,", 16));
    OK(dovetail_session_generate(session, NULL, N_PREDICT, append, text));
}

/* Answers alone; each text is the same. */
static void *write_answers(void *unused) {
    static const uint32_t ids[] = {10, 20, 30};
    dovetail_session *session = NULL;
    char text[4096];
    size_t len;
    int i;
    (void)unused;
    OK(dovetail_session_new(model, NULL, &session));
    for (i = 0; i < ANSWERS; i++) {
        answer(session, text);
        CHECK(strcmp(text, expected) == 0);
        OK(dovetail_detokenize(model, ids, 3, false, text, sizeof text, &len));
        EXPECT(DOVETAIL_ERROR_ARGUMENT, dovetail_session_prompt_text(session, NULL, 1));
        CHECK(strstr(dovetail_last_error(session), "the text is NULL") != NULL);
    }
    dovetail_session_free(session);
    return NULL;
}

/* Generates until another thread ends it. */
static void *go_on(void *userdata) {
    endless *e = (endless *)userdata;
    int status = DOVETAIL_OK;
    while (status == DOVETAIL_OK) {
        status = dovetail_session_prompt_text(e->session, "One, two, three,", 16);
        if (status == DOVETAIL_OK) status = dovetail_session_generate(e->session, NULL, 400, NULL, NULL);
    }
    CHECK(status == DOVETAIL_CANCELLED || status == DOVETAIL_ERROR_HANDLE);
    pthread_mutex_lock(&e->lock);
    e->ended = true;
    pthread_mutex_unlock(&e->lock);
    return NULL;
}

static bool has_ended(endless *e) {
    bool ended;
    pthread_mutex_lock(&e->lock);
    ended = e->ended;
    pthread_mutex_unlock(&e->lock);
    return ended;
}

int main(int argc, char **argv) {
    pthread_t writers[2], others[2];
    endless ends[2];
    dovetail_session *first = NULL;
    dovetail_options options;
    int i;
    CHECK(argc == 2);
    OK(dovetail_options_init(&options, sizeof options));
    options.threads = 2;
    options.n_ctx = 512;
    OK(dovetail_model_load(argv[1], &options, &model));
    OK(dovetail_session_new(model, NULL, &first));
    answer(first, expected);
    CHECK(strlen(expected) > 10);
    for (i = 0; i < 2; i++) {
        ends[i].ended = false;
        CHECK(pthread_mutex_init(&ends[i].lock, NULL) == 0);
        OK(dovetail_session_new(model, NULL, &ends[i].session));
        CHECK(pthread_create(&others[i], NULL, go_on, &ends[i]) == 0);
        CHECK(pthread_create(&writers[i], NULL, write_answers, NULL) == 0);
    }
    for (i = 0; i < 2; i++) CHECK(pthread_join(writers[i], NULL) == 0);
    CHECK(!has_ended(&ends[0]) && !has_ended(&ends[1]));
    dovetail_session_free(ends[0].session);
    /* A prompt that begins later forgets a cancel. */
    while (!has_ended(&ends[1])) OK(dovetail_session_cancel(ends[1].session));
    for (i = 0; i < 2; i++) CHECK(pthread_join(others[i], NULL) == 0);
    dovetail_session_free(ends[1].session);
    dovetail_session_free(first);
    dovetail_model_free(model);
    puts("ok");
    return 0;
}
