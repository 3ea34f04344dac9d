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

static const char  payment_currencies_0[] =
    "BIFCLPDJFGNFISKJPYKMFKRWPYGRWFUGXUYIVNDVUVXAFXOFXPF";

static const char  payment_currencies_2[] =
    "AEDAFNALLAMDAOAARSAUDAWGAZNBAMBBDBDTBMDBNDBOBBOVBRLBSDBTNBWPBYNBZD"
    "CADCDFCHECHFCHWCNYCOPCOUCRCCUPCVECZKDKKDOPDZDEGPERNETBEURFJDFKPGBP"
    "GELGHSGIPGMDGTQGYDHKDHNLHTGHUFIDRILSINRIRRJMDKESKGSKHRKPWKYDKZTLAK"
    "LBPLKRLRDLSLMADMDLMGAMKDMMKMNTMOPMRUMURMVRMWKMXNMXVMYRMZNNADNGNNIO"
    "NOKNPRNZDPABPENPGKPHPPKRPLNQARRONRSDRUBSARSBDSCRSDGSEKSGDSHPSLESOS"
    "SRDSSPSTNSVCSYPSZLTHBTJSTMTTOPTRYTTDTWDTZSUAHUSDUSNUYUUZSVEDVESWST"
    "XADXCDXCGYERZARZMWZWG";

static const char  payment_currencies_3[] =
    "BHDIQDJODKWDLYDOMRTND";

static const char  payment_currencies_4[] =
    "CLFUYW";


static int payment_currency_find(const char *list, size_t n, const char *code);


int
payment_currency_exponent(const char *code, size_t len)
{
    if (len != 3) {
        return -1;
    }

    if (payment_currency_find(payment_currencies_2,
                              (sizeof(payment_currencies_2) - 1) / 3, code))
    {
        return 2;
    }

    if (payment_currency_find(payment_currencies_0,
                              (sizeof(payment_currencies_0) - 1) / 3, code))
    {
        return 0;
    }

    if (payment_currency_find(payment_currencies_3,
                              (sizeof(payment_currencies_3) - 1) / 3, code))
    {
        return 3;
    }

    if (payment_currency_find(payment_currencies_4,
                              (sizeof(payment_currencies_4) - 1) / 3, code))
    {
        return 4;
    }

    return -1;
}


/* a binary search among n sorted codes of three letters */

static int
payment_currency_find(const char *list, size_t n, const char *code)
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
