/*
 * ISO 4217: which three letters are a currency, and the decimals of each.
 */

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "payment.h"


static const struct {
    const char  *code;
    int          exponent;
} currencies[] = {

    { "KRW", 0 }, { "JPY", 0 }, { "BIF", 0 }, { "CLP", 0 }, { "DJF", 0 },
    { "GNF", 0 }, { "ISK", 0 }, { "KMF", 0 }, { "PYG", 0 }, { "RWF", 0 },
    { "UGX", 0 }, { "UYI", 0 }, { "VND", 0 }, { "VUV", 0 }, { "XAF", 0 },
    { "XOF", 0 }, { "XPF", 0 },

    { "BHD", 3 }, { "IQD", 3 }, { "JOD", 3 }, { "KWD", 3 }, { "LYD", 3 },
    { "OMR", 3 }, { "TND", 3 },

    { "CLF", 4 }, { "UYW", 4 },

    /* the first, the last, and some in between */

    { "AED", 2 }, { "EUR", 2 }, { "USD", 2 }, { "GBP", 2 }, { "CHF", 2 },
    { "MGA", 2 }, { "MRU", 2 }, { "XCG", 2 }, { "ZWG", 2 },

    /* no minor unit in the standard */

    { "XAU", -1 }, { "XAG", -1 }, { "XDR", -1 }, { "XTS", -1 }, { "XXX", -1 },

    /* gone from the standard */

    { "DEM", -1 }, { "HRK", -1 }, { "ZWL", -1 }, { "ANG", -1 },

    /* not a code at all */

    { "", -1 }, { "K", -1 }, { "KR", -1 }, { "KRWX", -1 }, { "krw", -1 },
    { "Krw", -1 }, { "KR ", -1 }, { " KR", -1 }, { "410", -1 }, { "ZZZ", -1 },
    { "AAA", -1 }, { "\xea\xb0\x80", -1 }
};


static void
exponents(void **state)
{
    size_t  i;

    (void) state;

    for (i = 0; i < sizeof(currencies) / sizeof(currencies[0]); i++) {
        assert_int_equal(payment_money_exponent(currencies[i].code,
                                                strlen(currencies[i].code)),
                         currencies[i].exponent);
    }
}


/*
 * Every code of three letters is tried: a table that is not sorted, or has a
 * letter lost, finds fewer codes or others.
 */

static void
whole_standard(void **state)
{
    int       exponent;
    char      code[3];
    unsigned  n[5], i, all;

    (void) state;

    memset(n, 0, sizeof(n));
    all = 0;

    for (i = 0; i < 26 * 26 * 26; i++) {
        code[0] = (char) ('A' + i / (26 * 26));
        code[1] = (char) ('A' + i / 26 % 26);
        code[2] = (char) ('A' + i % 26);

        exponent = payment_money_exponent(code, 3);

        if (exponent >= 0) {
            assert_in_range(exponent, 0, 4);
            n[exponent]++;
            all++;
        }
    }

    assert_int_equal(n[0], 17);
    assert_int_equal(n[1], 0);
    assert_int_equal(n[2], 139);
    assert_int_equal(n[3], 7);
    assert_int_equal(n[4], 2);
    assert_int_equal(all, 165);
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test(exponents),
        cmocka_unit_test(whole_standard)
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
