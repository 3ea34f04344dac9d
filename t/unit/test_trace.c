/*
 * Which traceparent and tracestate headers are W3C's, and what becomes of them.
 * The cases are those of the specification (sections 3.2.2 and 3.3.1) and of
 * its test suite.
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

#define X16     "xxxxxxxxxxxxxxxx"
#define X64     X16 X16 X16 X16
#define X256    X64 X64 X64 X64

/* so many members, without a comma behind the last */
#define A8      "a=1,a=1,a=1,a=1,a=1,a=1,a=1,a=1"
#define A32     A8 "," A8 "," A8 "," A8

/* a member of 128 characters, and one of 129 */
#define S128    "s=" X64 X16 X16 X16 "xxxxxxxxxxxxxx"
#define L129    "l=" X64 X16 X16 X16 "xxxxxxxxxxxxxxx"


static const struct {
    const char  *text;
    const char  *out;       /* NULL: it is to be ignored */
} cases[] = {
    { "00-" TRACE "-" PARENT "-01", "00-" TRACE "-" PARENT "-01" },
    { "00-" TRACE "-" PARENT "-00", "00-" TRACE "-" PARENT "-00" },
    { "00-" TRACE "-" PARENT "-ff", "00-" TRACE "-" PARENT "-03" },
    { "00-" TRACE "-" PARENT "-0e", "00-" TRACE "-" PARENT "-02" },
    { "00-" TRACE "-" PARENT "-39", "00-" TRACE "-" PARENT "-01" },

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


static const struct {
    const char  *text;
    const char  *out;       /* "": it is to be ignored */
} states[] = {
    { "foo=1", "foo=1" },
    { "foo=1,bar=2", "foo=1,bar=2" },
    { "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE",
      "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE" },

    /* white space around members is theirs who sent it, and so are members
     * that are empty; that around the whole is nobody's */
    { "foo=1 \t , \t bar=2, \t baz=3", "foo=1 \t , \t bar=2, \t baz=3" },
    { " \tfoo=1,bar=2\t ", "foo=1,bar=2" },
    { "foo=1,,bar=2,", "foo=1,,bar=2," },
    { ",foo=1", ",foo=1" },
    { "", "" },
    { " ", "" },
    { ",", "" },
    { " , ,\t, ", "" },

    /* what a key may be; level 2 lets it begin with a digit, and have an at
     * sign anywhere else */
    { "abcdefghijklmnopqrstuvwxyz0123456789_-*/=1",
      "abcdefghijklmnopqrstuvwxyz0123456789_-*/=1" },
    { "tenant@vendor=1", "tenant@vendor=1" },
    { "0@v=1", "0@v=1" },
    { "a@=1", "a@=1" },
    { "a@@b=1", "a@@b=1" },
    { "@foo=1", "" },
    { "_foo=1", "" },
    { "-foo=1", "" },
    { "*foo=1", "" },
    { "/foo=1", "" },
    { "Foo=1", "" },
    { "fOo=1", "" },
    { "foo@Bar=1", "" },
    { "foo.bar=1", "" },
    { "foo =1", "" },
    { "foo\t=1", "" },
    { "f oo=1", "" },
    { "f\xc3\xb6\x6f=1", "" },
    { "=1", "" },
    { "foo", "" },
    { "foo=1,bar", "" },
    { "foo=1,=2", "" },
    { "foo;=1", "" },
    { X256 "=1", X256 "=1" },
    { X256 "x=1", "" },

    /* what a value may be */
    { "a=!\"#$%&'()*+-./0123456789:;<>?@ABCXYZ[\\]^_`abcxyz{|}~",
      "a=!\"#$%&'()*+-./0123456789:;<>?@ABCXYZ[\\]^_`abcxyz{|}~" },
    { "a= b  c ", "a= b  c" },
    { "foo=", "" },
    { "foo= ", "" },
    { "foo=,bar=2", "" },
    { "foo=1=2", "" },
    { "foo==", "" },
    { "foo=\t1", "" },
    { "foo=1\t2", "" },
    { "foo=1\x7f", "" },
    { "foo=1\x1f", "" },
    { "foo=1\n", "" },
    { "foo=\xc3\xb6", "" },
    { "a=" X256, "a=" X256 },
    { "a=" X256 "x", "" },

    /* a member that is wrong spoils the others, wherever it is */
    { "a=1,b=2,C=3", "" },
    { "C=3,a=1,b=2", "" },

    /* keys that come twice are for others to judge */
    { "foo=1,foo=1", "foo=1,foo=1" },
    { "foo=1,foo=2", "foo=1,foo=2" },

    /* 32 members, and no more, empty ones among them */
    { A32, A32 },
    { A32 ",a=1", "" },
    { A32 ",", "" },
    { A8 "," A8 "," A8 "," A8 ", ", "" },

    /* 512 characters go on as they are, also with white space in between */
    { "a=" X256 " , b=" X64 X64 X64 X16 X16 X16 "123456789",
      "a=" X256 " , b=" X64 X64 X64 X16 X16 X16 "123456789" },

    /* of more, the white space is left out, */
    { "a=" X256 " \t  , b=" X64 X64 X64 X16 X16 X16 "123456789",
      "a=" X256 ",b=" X64 X64 X64 X16 X16 X16 "123456789" },

    /* then what is longer than 128 characters, the last one first, as far as
     * it is needed, */
    { "a=1," L129 "," S128 "," S128 "," S128 ",b=2",
      "a=1," S128 "," S128 "," S128 ",b=2" },
    { L129 "," L129 ",a=1," S128 "," S128 ",b=2",
      L129 ",a=1," S128 "," S128 ",b=2" },

    /* and then the last ones */
    { "a=1," S128 "," S128 "," S128 "," S128 ",b=2",
      "a=1," S128 "," S128 "," S128 },
    { L129 "," S128 "," S128 "," S128 "," S128 "," S128,
      S128 "," S128 "," S128 },

    /* one alone can be too long */
    { X256 "=" X256, "" },
    { X256 "=" X256 ",a=1", "a=1" }
};


static void
states_go_on(void **state)
{
    char    *text, out[PAYMENT_TRACESTATE_LEN + 1];
    size_t   i, len, n;

    (void) state;

    for (i = 0; i < sizeof(states) / sizeof(states[0]); i++) {
        len = strlen(states[i].text);

        /* not terminated, so that the sanitizer sees a byte too many */
        text = malloc(len + (len == 0));
        assert_non_null(text);
        memcpy(text, states[i].text, len);

        n = payment_trace_state(out, text, len);
        assert_in_range(n, 0, PAYMENT_TRACESTATE_LEN);
        out[n] = '\0';

        if (strcmp(out, states[i].out) != 0) {
            fail_msg("%s became %s, and not %s", states[i].text, out,
                     states[i].out);
        }

        free(text);
    }
}


/* A byte that ends C's strings is in no key. */

static void
no_zero_goes_on(void **state)
{
    char               out[PAYMENT_TRACESTATE_LEN];
    static const char  text[] = "a\0b=1";

    (void) state;

    assert_int_equal(payment_trace_state(out, text, sizeof(text) - 1), 0);
}


/* By the flag, and by the last 56 bits of the trace's number. */

static void
some_are_sampled(void **state)
{
    static const struct {
        const char  *text;
        uint64_t     bound;
        int          sampled;
    } traces[] = {
        { "00-" TRACE "-" PARENT "-01", PAYMENT_TRACE_ALL, 1 },
        { "00-" TRACE "-" PARENT "-00", PAYMENT_TRACE_ALL, 0 },
        { "00-" TRACE "-" PARENT "-03", PAYMENT_TRACE_ALL, 1 },
        { "00-" TRACE "-" PARENT "-0e", PAYMENT_TRACE_ALL, 0 },
        { "00-" TRACE "-" PARENT "-ff", PAYMENT_TRACE_ALL, 1 },
        { "00-" TRACE "-" PARENT "-01", 0, 0 },

        /* TRACE ends with 48eb211c80319c */
        { "00-" TRACE "-" PARENT "-01", UINT64_C(0x48eb211c80319d), 1 },
        { "00-" TRACE "-" PARENT "-01", UINT64_C(0x48eb211c80319c), 0 },

        { "00-ffffffffffffffffffffffffffffffff-" PARENT "-01",
          PAYMENT_TRACE_ALL, 1 },
        { "00-ffffffffffffffffffffffffffffffff-" PARENT "-01",
          PAYMENT_TRACE_ALL - 1, 0 },
        { "00-ffffffffffffffffff00000000000000-" PARENT "-01", 1, 1 }
    };

    size_t  i;

    (void) state;

    for (i = 0; i < sizeof(traces) / sizeof(traces[0]); i++) {
        if (payment_trace_sampled(traces[i].text, traces[i].bound)
            != traces[i].sampled)
        {
            fail_msg("%s was decided wrongly", traces[i].text);
        }
    }
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test(parses),
        cmocka_unit_test(states_go_on),
        cmocka_unit_test(no_zero_goes_on),
        cmocka_unit_test(some_are_sampled)
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
