/* batch MODEL FILE: answers the prompts of a file, one a line, up to eight at once. */
#include <dovetail.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TOGETHER = 8, MAX_LINE = 8192, MAX_ANSWER = 64 * 1024, N_PREDICT = 64 };

/* A place for a prompt and its answer. */
typedef struct {
    dovetail_session *session;
    char prompt[MAX_LINE];
    char answer[MAX_ANSWER];
    size_t len;
} job;

static bool take(void *userdata, size_t i, const dovetail_piece *piece) {
    job *jobs = (job *)userdata;
    if (jobs[i].len + piece->text_len >= MAX_ANSWER) return false;
    memcpy(jobs[i].answer + jobs[i].len, piece->text, piece->text_len);
    jobs[i].len += piece->text_len;
    return true;
}

/* Reads the next prompts and lets their answers begin; their number, or -1. */
static int begin(FILE *file, job *jobs, const dovetail_sampling *sampling) {
    int n = 0;
    while (n < TOGETHER && fgets(jobs[n].prompt, MAX_LINE, file) != NULL) {
        dovetail_message message = {"user", 4, jobs[n].prompt, strcspn(jobs[n].prompt, "\r\n")};
        jobs[n].len = 0;
        if (dovetail_session_prompt_chat(jobs[n].session, &message, 1) != DOVETAIL_OK ||
            dovetail_session_begin(jobs[n].session, sampling, N_PREDICT) != DOVETAIL_OK)
            return -1;
        n++;
    }
    return n;
}

int main(int argc, char **argv) {
    job *jobs = (job *)calloc(TOGETHER, sizeof *jobs);
    FILE *file = argc == 3 ? fopen(argv[2], "r") : NULL;
    dovetail_model *model = NULL;
    dovetail_options options;
    dovetail_sampling sampling;
    dovetail_session *sessions[TOGETHER] = {NULL};
    int n = 0;
    if (jobs == NULL || file == NULL) {
        fprintf(stderr, "usage: batch MODEL FILE, a file with a prompt a line\n");
        free(jobs);
        return 1;
    }
    dovetail_options_init(&options, sizeof options);
    options.n_ctx = 2048;
    options.n_together = TOGETHER;
    dovetail_sampling_init(&sampling, sizeof sampling);
    sampling.temperature = 0;
    bool ok = dovetail_model_load(argv[1], &options, &model) == DOVETAIL_OK;
    for (int i = 0; ok && i < TOGETHER; i++) {
        ok = dovetail_session_new(model, NULL, &sessions[i]) == DOVETAIL_OK;
        jobs[i].session = sessions[i];
    }
    while (ok && (n = begin(file, jobs, &sampling)) > 0) {
        bool goes_on = true;
        while (ok && goes_on)
            ok = dovetail_step(sessions, (size_t)n, take, jobs, &goes_on) == DOVETAIL_OK;
        for (int i = 0; i < n; i++)
            printf("%s%.*s\n\n", jobs[i].prompt, (int)jobs[i].len, jobs[i].answer);
    }
    ok = ok && n == 0;
    if (!ok) fprintf(stderr, "error: %s\n", dovetail_last_error(NULL));
    for (int i = 0; i < TOGETHER; i++) dovetail_session_free(sessions[i]);
    dovetail_model_free(model);
    fclose(file);
    free(jobs);
    return ok ? 0 : 1;
}
