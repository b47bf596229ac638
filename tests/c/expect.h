/* What the tests in C say when something is not as it should be. */
#ifndef EXPECT_H
#define EXPECT_H

#include <dovetail.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FAIL(...)                                      \
    do {                                               \
        fprintf(stderr, "%s:%d: ", __FILE__, __LINE__); \
        fprintf(stderr, __VA_ARGS__);                  \
        fputc('\n', stderr);                           \
        exit(1);                                       \
    } while (0)

#define CHECK(condition) \
    do {                 \
        if (!(condition)) FAIL("%s is not so", #condition); \
    } while (0)

/* A call has this status; one that fails has left a line for people. */
#define EXPECT(status, call)                                                        \
    do {                                                                            \
        int found = (int)(call);                                                    \
        if (found != (int)(status))                                                 \
            FAIL("%s is %d (%s: %s), not %d", #call, found, dovetail_status_string(found), \
                 dovetail_last_error(NULL), (int)(status));                         \
        if (found > DOVETAIL_END) {                                                 \
            const char *line = dovetail_last_error(NULL);                           \
            if (line[0] == '\0' || strchr(line, '\n') != NULL || strstr(line, " --") != NULL) \
                FAIL("\"%s\" is no line for a program in C", line);              \
        }                                                                           \
    } while (0)

#define OK(call) EXPECT(DOVETAIL_OK, call)

#endif
