/* chat MODEL [DRAFTER]: answers each line of standard input, one conversation. */
#include <dovetail.h>
#include <stdio.h>
#include <string.h>

enum { MAX_TURNS = 256, MAX_TEXT = 16384 };

/* The conversation: who said what. */
static dovetail_message turns[MAX_TURNS];
static char texts[MAX_TURNS][MAX_TEXT];
static size_t n_turns;

static void add(const char *role) {
    dovetail_message turn = {role, strlen(role), texts[n_turns], strlen(texts[n_turns])};
    turns[n_turns++] = turn;
}

/* Prints a piece and keeps it for the next turns; an answer that is too long ends here. */
static bool take(void *userdata, const dovetail_piece *piece) {
    char *answer = (char *)userdata;
    if (strlen(answer) + piece->text_len >= MAX_TEXT) return false;
    strcat(answer, piece->text);
    fputs(piece->text, stdout);
    return fflush(stdout) == 0;
}

static void say(void *userdata, dovetail_log_level level, const char *line) {
    (void)userdata;
    if (level == DOVETAIL_LOG_NOTE) fprintf(stderr, "%s\n", line);
}

int main(int argc, char **argv) {
    dovetail_model *model = NULL;
    dovetail_session *session = NULL;
    dovetail_options options;
    bool ok;
    if (argc < 2) return fprintf(stderr, "usage: chat MODEL [DRAFTER] < QUESTIONS\n"), 2;
    dovetail_options_init(&options, sizeof options);
    options.log = say;
    options.model_draft = argc > 2 ? argv[2] : NULL;
    ok = dovetail_model_load(argv[1], &options, &model) == DOVETAIL_OK &&
         dovetail_session_new(model, NULL, &session) == DOVETAIL_OK;
    while (ok && n_turns + 2 <= MAX_TURNS && fgets(texts[n_turns], MAX_TEXT, stdin) != NULL) {
        if (strchr(texts[n_turns], '\n') == NULL && !feof(stdin)) {
            fprintf(stderr, "a line is longer than %d bytes\n", MAX_TEXT - 2);
            break;
        }
        texts[n_turns][strcspn(texts[n_turns], "\r\n")] = '\0';
        add("user");
        ok = dovetail_session_prompt_chat(session, turns, n_turns) == DOVETAIL_OK &&
             dovetail_session_generate(session, NULL, SIZE_MAX, take, texts[n_turns]) == DOVETAIL_OK;
        puts("");
        add("assistant");
    }
    if (!ok) fprintf(stderr, "error: %s\n", dovetail_last_error(NULL));
    dovetail_session_free(session);
    dovetail_model_free(model);
    return ok ? 0 : 1;
}
