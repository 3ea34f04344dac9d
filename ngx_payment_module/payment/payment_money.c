/*
 * Money: which currencies there are, and how many decimals each has.
 *
 * Amounts are integers of minor units everywhere, so nothing is ever rounded
 * here; the exponent only says what a minor unit is.  Pure; any process.
 */

#include <string.h>

#include "payment.h"


/*
 * ISO 4217 list one, with funds codes, without those that have no minor unit
 * (metals, bond units, XDR, XSU, XUA, XTS, XXX).  One string per exponent,
 * sorted, so that a reader can compare it with the standard.
 */

static const char  payment_money_codes_0[] =
    "BIFCLPDJFGNFISKJPYKMFKRWPYGRWFUGXUYIVNDVUVXAFXOFXPF";

static const char  payment_money_codes_2[] =
    "AEDAFNALLAMDAOAARSAUDAWGAZNBAMBBDBDTBMDBNDBOBBOVBRLBSDBTNBWPBYNBZD"
    "CADCDFCHECHFCHWCNYCOPCOUCRCCUPCVECZKDKKDOPDZDEGPERNETBEURFJDFKPGBP"
    "GELGHSGIPGMDGTQGYDHKDHNLHTGHUFIDRILSINRIRRJMDKESKGSKHRKPWKYDKZTLAK"
    "LBPLKRLRDLSLMADMDLMGAMKDMMKMNTMOPMRUMURMVRMWKMXNMXVMYRMZNNADNGNNIO"
    "NOKNPRNZDPABPENPGKPHPPKRPLNQARRONRSDRUBSARSBDSCRSDGSEKSGDSHPSLESOS"
    "SRDSSPSTNSVCSYPSZLTHBTJSTMTTOPTRYTTDTWDTZSUAHUSDUSNUYUUZSVEDVESWST"
    "XADXCDXCGYERZARZMWZWG";

static const char  payment_money_codes_3[] =
    "BHDIQDJODKWDLYDOMRTND";

static const char  payment_money_codes_4[] =
    "CLFUYW";


#define payment_money_codes(exponent)                                         \
    { payment_money_codes_##exponent,                                         \
      (sizeof(payment_money_codes_##exponent) - 1) / 3, exponent }


static int payment_money_find(const char *list, size_t n, const char *code);


int
payment_money_exponent(const char *code, size_t len)
{
    size_t  i;

    /* the longest list is the one that most payments find their currency in */

    static const struct {
        const char  *list;
        size_t       n;
        int          exponent;
    } lists[] = {
        payment_money_codes(2),
        payment_money_codes(0),
        payment_money_codes(3),
        payment_money_codes(4)
    };

    if (len != 3) {
        return -1;
    }

    for (i = 0; i < sizeof(lists) / sizeof(lists[0]); i++) {
        if (payment_money_find(lists[i].list, lists[i].n, code)) {
            return lists[i].exponent;
        }
    }

    return -1;
}


/* A binary search among n sorted codes of three letters. */

static int
payment_money_find(const char *list, size_t n, const char *code)
{
    int     order;
    size_t  low, high, middle;

    low = 0;
    high = n;

    while (low < high) {
        middle = low + (high - low) / 2;
        order = memcmp(code, list + 3 * middle, 3);

        if (order == 0) {
            return 1;
        }

        if (order < 0) {
            high = middle;

        } else {
            low = middle + 1;
        }
    }

    return 0;
}
