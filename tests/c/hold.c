/* hold MODEL: loads a model, writes an answer so that all weights are read, and keeps it until standard input ends. */
#include "expect.h"

int main(int argc, char **argv) {
    dovetail_model *model = NULL;
    dovetail_session *session = NULL;
    dovetail_options options;
    CHECK(argc == 2);
    OK(dovetail_options_init(&options, sizeof options));
    options.repack = "cache";
    options.spec_type = "none";
    options.n_ctx = 256;
    options.n_ubatch = 16;
    OK(dovetail_model_load(argv[1], &options, &model));
    OK(dovetail_session_new(model, NULL, &session));
    OK(dovetail_session_prompt_text(session, "One, two, three,", 16));
    OK(dovetail_session_generate(session, NULL, 4, NULL, NULL));
    puts("loaded");
    fflush(stdout);
    while (getchar() != EOF) continue;
    dovetail_session_free(session);
    dovetail_model_free(model);
    return 0;
}
