/* A model whose chat template is no template is still good for all but chat. Arguments: such a model. */
#include "expect.h"
#include <pthread.h>

/* The least that a program may have: some systems give no more to a thread. */
#define STACK_BYTES (2u << 20)

static const char *path;

/* A template is refused; nothing else happens. */
static void refuse(dovetail_model *model, const char *source) {
    dovetail_message message = {"user", 4, "Hi", 2};
    char text[64];
    size_t len = 0;
    EXPECT(DOVETAIL_ERROR_TEMPLATE,
           dovetail_apply_chat_template(model, source, &message, 1, true, text, sizeof text, &len));
    CHECK(len == 0);
}

static void *use_it(void *unused) {
    static char signs[40000];
    dovetail_model *model = NULL;
    dovetail_session *session = NULL;
    dovetail_options options;
    dovetail_model_info info;
    dovetail_message message = {"user", 4, "Hi", 2};
    uint32_t ids[16];
    char text[64];
    size_t n = 0;
    OK(dovetail_options_init(&options, sizeof options));
    options.threads = 1;
    options.n_ctx = 64;
    OK(dovetail_model_load(path, &options, &model));
    info.size = sizeof info;
    OK(dovetail_model_get_info(model, &info));
    CHECK(info.has_chat_template);
    refuse(model, NULL);
    OK(dovetail_session_new(model, NULL, &session));
    EXPECT(DOVETAIL_ERROR_TEMPLATE, dovetail_session_prompt_chat(session, &message, 1));
    OK(dovetail_tokenize(model, "hi", 2, true, true, ids, 16, &n));
    CHECK(n > 0);
    OK(dovetail_session_prompt_text(session, "hi", 2));
    OK(dovetail_apply_chat_template(model, "chatml", &message, 1, true, text, sizeof text, &n));
    dovetail_session_free(session);
    OK(dovetail_session_new(model, NULL, &session));
    dovetail_session_free(session);
    /* Templates that ask for the stack and for memory. */
    memset(signs, '-', sizeof signs);
    memcpy(signs, "{{ ", 3);
    memcpy(signs + sizeof signs - 6, " 1 }}", 6);
    refuse(model, signs);
    refuse(model, "{% block b %}{{ self.b() }}{% endblock %}");
    refuse(model, "{% set ns = namespace(l=[]) %}{% for i in range(99999) %}{% set ns.l = [ns.l] %}{% endfor %}{{ ns.l }}");
    refuse(model, "{{ '%9999999999d' | format(1) }}");
    refuse(model, "{% set ns = namespace(s='aaaa') %}{% for i in range(60) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}");
    dovetail_model_free(model);
    return unused;
}

int main(int argc, char **argv) {
    pthread_t thread;
    pthread_attr_t attributes;
    CHECK(argc == 2);
    path = argv[1];
    CHECK(pthread_attr_init(&attributes) == 0 && pthread_attr_setstacksize(&attributes, STACK_BYTES) == 0);
    CHECK(pthread_create(&thread, &attributes, use_it, NULL) == 0);
    CHECK(pthread_join(thread, NULL) == 0);
    puts("ok");
    return 0;
}
