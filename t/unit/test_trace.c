/*
 * Which traceparent headers are W3C's, and what becomes of them.  The cases are
 * those of the specification (section 3.2.2) and of its test suite.
 */

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "payment.h"


#define TRACE   "0af7651916cd43dd8448eb211c80319c"
#define PARENT  "b7ad6b7169203331"
#define ZEROS   "00000000000000000000000000000000"


static const struct {
    const char  *text;
    const char  *out;       /* NULL: it is to be ignored */
} cases[] = {
    { "00-" TRACE "-" PARENT "-01", "00-" TRACE "-" PARENT "-01" },
    { "00-" TRACE "-" PARENT "-00", "00-" TRACE "-" PARENT "-00" },
    { "00-" TRACE "-" PARENT "-ff", "00-" TRACE "-" PARENT "-ff" },

    /* later versions, which begin alike */
    { "01-" TRACE "-" PARENT "-01", "00-" TRACE "-" PARENT "-01" },
    { "cc-" TRACE "-" PARENT "-01-what-ever", "00-" TRACE "-" PARENT "-01" },
    { "cc-" TRACE "-" PARENT "-01-", "00-" TRACE "-" PARENT "-01" },
    { "cc-" TRACE "-" PARENT "-01.what", NULL },
    { "cc-" TRACE "-" PARENT "-01w", NULL },

    { "ff-" TRACE "-" PARENT "-01", NULL },
    { "00-" ZEROS "-" PARENT "-01", NULL },
    { "00-" TRACE "-0000000000000000-01", NULL },
    { "01-" ZEROS "-" PARENT "-01", NULL },

    { "00-" TRACE "-" PARENT "-01-more", NULL },
    { "00-" TRACE "-" PARENT "-01-", NULL },
    { "00-" TRACE "-" PARENT "-1", NULL },
    { "00-" TRACE "-" PARENT, NULL },
    { "", NULL },
    { "0-" TRACE "-" PARENT "-01", NULL },

    { "00-0AF7651916CD43DD8448EB211C80319C-" PARENT "-01", NULL },
    { "00-" TRACE "-B7AD6B7169203331-01", NULL },
    { "00-" TRACE "-" PARENT "-0A", NULL },
    { "0A-" TRACE "-" PARENT "-01", NULL },
    { "00-" TRACE "-" PARENT "-.0", NULL },
    { "00-.af7651916cd43dd8448eb211c80319c-" PARENT "-01", NULL },
    { "00_" TRACE "-" PARENT "-01", NULL },
    { "00-" TRACE "_" PARENT "-01", NULL },
    { "00-" TRACE "-" PARENT "_01", NULL },
    { " 00-" TRACE "-" PARENT "-01", NULL }
};


static void
parses(void **state)
{
    char    out[PAYMENT_TRACEPARENT_LEN], *text;
    size_t  i, len;

    (void) state;

    for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        len = strlen(cases[i].text);

        /* not terminated, so that the sanitizer sees a byte too many */
        text = malloc(len + (len == 0));
        assert_non_null(text);
        memcpy(text, cases[i].text, len);
        memset(out, '?', sizeof(out));

        if (cases[i].out == NULL) {
            if (payment_trace_parse(out, text, len)) {
                fail_msg("%s was taken", cases[i].text);
            }

            assert_int_equal(out[0], '?');

        } else {
            if (!payment_trace_parse(out, text, len)) {
                fail_msg("%s was ignored", cases[i].text);
            }

            assert_memory_equal(out, cases[i].out, sizeof(out));
        }

        free(text);
    }
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test(parses)
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
