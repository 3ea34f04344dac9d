/*
 * The arguments of a list, and its cursor: payment_list.c.
 */

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "payment.h"


typedef struct {
    payment_list_argument_e   i;
    const char               *text;
} given_t;


static payment_argument_t  args[PAYMENT_LIST_ARGUMENTS];
static payment_list_t      list;
static payment_fault_t     fault;


static void
give(payment_list_argument_e i, const char *text)
{
    args[i].text = text;
    args[i].len = strlen(text);
}


static int
nothing(void **state)
{
    (void) state;
    memset(args, 0, sizeof(args));

    return 0;
}


static payment_outcome_e
parse(const char *merchant)
{
    memset(&list, 0xa5, sizeof(list));
    memset(&fault, 0xa5, sizeof(fault));

    return payment_list_parse(&list, args, merchant, strlen(merchant), &fault);
}


static void
without_any(void **state)
{
    static const uint8_t  zeros[PAYMENT_ID_SIZE];

    (void) state;

    assert_int_equal(parse("M"), PAYMENT_OK);
    assert_int_equal(list.limit, 20);
    assert_int_equal(list.statuses, 0);
    assert_string_equal(list.currency, "");
    assert_memory_equal(list.first, zeros, PAYMENT_ID_SIZE);

    /* the first millisecond of the year 10000 */
    assert_memory_equal(list.end, "\xe6\x77\xd2\x1f\xdc\x00", 6);
    assert_false(payment_list_filters(&list));
}


/* python3 -c 'import calendar, time; print("%012x" % (1000 * calendar.timegm(
 *             time.strptime("2024-02-29T23:59:59", "%Y-%m-%dT%H:%M:%S"))))' */

static void
times(void **state)
{
    size_t  i;

    static const struct {
        const char  *text;
        const char  *ms;
    } good[] = {
        { "1970-01-01T00:00:00Z", "\x00\x00\x00\x00\x00\x00" },
        { "1970-01-01T00:00:00.001Z", "\x00\x00\x00\x00\x00\x01" },
        { "1970-01-01T00:00:01.1Z", "\x00\x00\x00\x00\x04\x4c" },
        { "1970-01-01T00:00:01.10Z", "\x00\x00\x00\x00\x04\x4c" },
        { "2000-02-29T00:00:00Z", "\x00\xdd\x9a\xa6\xe0\x00" },
        { "2024-02-29T23:59:59Z", "\x01\x8d\xf7\x4f\x80\x18" },
        { "2100-03-01T00:00:00Z", "\x03\xbc\x5c\x9b\x0c\x00" },
        { "9999-12-31T23:59:59.999Z", "\xe6\x77\xd2\x1f\xdb\xff" }
    };

    static const char  *const bad[] = {
        "", "Z", "2026-11-22T18:12:46", "2026-11-22 18:12:46Z",
        "2026-11-22T18:12:46.Z", "2026-11-22T18:12:46.1234Z",
        "2026-11-22T18:12:46z", "2026-11-22T18:12:46Z ",
        "2026-11-22T18:12:46+00:00", "2026-00-22T18:12:46Z",
        "2026-13-22T18:12:46Z", "2026-11-00T18:12:46Z",
        "2026-11-31T18:12:46Z", "2025-02-29T00:00:00Z",
        "2100-02-29T00:00:00Z", "2026-11-22T24:00:00Z",
        "2026-11-22T23:60:00Z", "2026-11-22T23:59:60Z",
        "1969-12-31T23:59:59Z", "0000-01-01T00:00:00Z", "2026-11-22"
    };

    (void) state;

    for (i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        nothing(NULL);
        give(PAYMENT_LIST_CREATED_FROM, good[i].text);
        assert_int_equal(parse("M"), PAYMENT_OK);
        assert_memory_equal(list.first, good[i].ms, 6);
    }

    for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        nothing(NULL);
        give(PAYMENT_LIST_CREATED_TO, bad[i]);
        assert_int_equal(parse("M"), PAYMENT_INVALID);
        assert_string_equal(fault.field, "createdTo");
    }
}


/* What payment_render_time() writes is read as what was written. */

static void
times_as_answers_have_them(void **state)
{
    char     text[PAYMENT_TIME_LEN + 1];
    int64_t  ms;
    uint8_t  id[PAYMENT_ID_SIZE];

    static const uint8_t  key[PAYMENT_KEY_HASH_SIZE];
    static const uint8_t  secret[PAYMENT_SECRET_SIZE];

    (void) state;

    text[PAYMENT_TIME_LEN] = '\0';

    /* steps of 11 days and some, so that all parts change */

    for (ms = 0; ms < INT64_C(253402300800000); ms += INT64_C(1000212347)) {
        (void) payment_render_time(text, ms);
        nothing(NULL);
        give(PAYMENT_LIST_CREATED_FROM, text);

        assert_int_equal(parse("M"), PAYMENT_OK);
        assert_true(payment_id_make(id, ms * 1000, 0, key, secret));
        assert_memory_equal(list.first, id, 6);
    }
}


static void
statuses(void **state)
{
    (void) state;

    give(PAYMENT_LIST_STATUS, "VOIDED,AUTHORIZED,VOIDED");
    assert_int_equal(parse("M"), PAYMENT_OK);
    assert_int_equal(list.statuses,
                     1 << PAYMENT_VOIDED | 1 << PAYMENT_AUTHORIZED);
    assert_true(payment_list_filters(&list));
}


/* All of the text, the digest included: cursors are kept by clients. */

static void
cursors(void **state)
{
    char     cursor[PAYMENT_LIST_CURSOR_LEN + 1];
    uint8_t  id[PAYMENT_ID_SIZE];

    (void) state;

    memset(id, 0x42, sizeof(id));
    cursor[PAYMENT_LIST_CURSOR_LEN] = '\0';

    assert_int_equal(parse("MERCHANT-1"), PAYMENT_OK);
    payment_list_cursor(cursor, &list, id);
    assert_string_equal(cursor, "QkJCQkJCQkJCQkJCQkJCQsKYUQIFwpzv");

    give(PAYMENT_LIST_CURSOR, cursor);
    give(PAYMENT_LIST_LIMIT, "7");
    assert_int_equal(parse("MERCHANT-1"), PAYMENT_OK);
    assert_memory_equal(list.end, id, sizeof(id));
    assert_int_equal(list.limit, 7);

    assert_int_equal(parse("MERCHANT-2"), PAYMENT_INVALID);
    assert_string_equal(fault.field, "cursor");

    give(PAYMENT_LIST_CURRENCY, "KRW");
    assert_int_equal(parse("MERCHANT-1"), PAYMENT_INVALID);
    assert_string_equal(fault.field, "cursor");
}


/* No filter, and no value of one, has the cursor of another. */

static void
cursors_of_other_lists(void **state)
{
    char    cursor[PAYMENT_LIST_CURSOR_LEN];
    size_t  i, k;

    static const given_t  lists[][4] = {
        { { 0, NULL } },
        { { PAYMENT_LIST_STATUS, "AUTHORIZED" } },
        { { PAYMENT_LIST_STATUS, "CAPTURED" } },
        { { PAYMENT_LIST_STATUS, "AUTHORIZED,CAPTURED" } },
        { { PAYMENT_LIST_CURRENCY, "KRW" } },
        { { PAYMENT_LIST_CURRENCY, "USD" } },
        { { PAYMENT_LIST_CURRENCY, "KRW" }, { PAYMENT_LIST_AMOUNT_MIN, "2" } },
        { { PAYMENT_LIST_CURRENCY, "KRW" }, { PAYMENT_LIST_AMOUNT_MAX, "2" } },
        { { PAYMENT_LIST_CURRENCY, "KRW" }, { PAYMENT_LIST_AMOUNT_MIN, "2" },
          { PAYMENT_LIST_AMOUNT_MAX, "2" } },
        { { PAYMENT_LIST_CREATED_FROM, "2026-01-01T00:00:00Z" } },
        { { PAYMENT_LIST_CREATED_FROM, "2026-01-01T00:00:00.001Z" } },
        { { PAYMENT_LIST_CREATED_TO, "2026-01-01T00:00:00Z" } }
    };

    (void) state;

    for (i = 0; i < sizeof(lists) / sizeof(lists[0]); i++) {
        for (k = 0; k < sizeof(lists) / sizeof(lists[0]); k++) {
            const given_t  *given;

            nothing(NULL);

            for (given = lists[i]; given < lists[i] + 4 && given->text; given++)
            {
                give(given->i, given->text);
            }

            assert_int_equal(parse("M"), PAYMENT_OK);
            payment_list_cursor(cursor, &list, list.end);

            nothing(NULL);

            for (given = lists[k]; given < lists[k] + 4 && given->text; given++)
            {
                give(given->i, given->text);
            }

            args[PAYMENT_LIST_CURSOR].text = cursor;
            args[PAYMENT_LIST_CURSOR].len = sizeof(cursor);

            assert_int_equal(parse("M"), i == k ? PAYMENT_OK
                                                : PAYMENT_INVALID);
        }
    }
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test_setup(without_any, nothing),
        cmocka_unit_test_setup(times, nothing),
        cmocka_unit_test_setup(times_as_answers_have_them, nothing),
        cmocka_unit_test_setup(statuses, nothing),
        cmocka_unit_test_setup(cursors, nothing),
        cmocka_unit_test_setup(cursors_of_other_lists, nothing)
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
