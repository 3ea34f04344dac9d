/*
 * What a merchant asks for who lists payments: the arguments of a query, read
 * strictly, and the cursor that leads from one page to the next.
 *
 * Ids begin with their time, to the millisecond of createdAt, and never change.
 * So a range of times is a range of ids, and a page is what is below an id: no
 * payment that is made or changed meanwhile moves another one to another page.
 *
 * A cursor is the id that the next page is below, and a digest of what was
 * asked for, merchant included; in base64url.  Whoever makes one up gets
 * another place in a list of their own: whose payments are listed is never
 * taken from it.
 *
 * Pure; any process.
 */

#include <string.h>

#include "payment.h"


/* the first byte that is hashed: see payment_list_digest() */
#define PAYMENT_LIST_VERSION       1

#define PAYMENT_LIST_CURSOR_SIZE   (PAYMENT_ID_SIZE + PAYMENT_LIST_DIGEST_SIZE)

#if (PAYMENT_LIST_CURSOR_LEN * 3 != PAYMENT_LIST_CURSOR_SIZE * 4)
#error "a cursor is written without padding"
#endif

/* behind every time that can be written, and less than the 48 bits of an id */
#define PAYMENT_LIST_TIME_END      INT64_C(253402300800000)

#define PAYMENT_LIST_DAY_MS        INT64_C(86400000)


static payment_outcome_e payment_list_statuses(payment_list_t *list,
    const payment_argument_t *value, payment_fault_t *fault);
static unsigned payment_list_status(const char *name, size_t len);
static payment_outcome_e payment_list_amounts(payment_list_t *list,
    const payment_argument_t *args, payment_fault_t *fault);
static payment_outcome_e payment_list_amount(int64_t *amount,
    const payment_argument_t *args, payment_list_argument_e i,
    payment_fault_t *fault);
static payment_outcome_e payment_list_times(int64_t *from, int64_t *to,
    const payment_argument_t *args, payment_fault_t *fault);
static payment_outcome_e payment_list_time(int64_t *ms,
    const payment_argument_t *args, payment_list_argument_e i,
    payment_fault_t *fault);
static unsigned payment_list_time_read(int64_t *ms, const char *text,
    size_t len);
static unsigned payment_list_month_days(unsigned year, unsigned month);
static payment_outcome_e payment_list_rows(payment_list_t *list,
    const payment_argument_t *value, payment_fault_t *fault);
static payment_outcome_e payment_list_begin(payment_list_t *list,
    const payment_argument_t *value, payment_fault_t *fault);
static unsigned payment_list_number(int64_t *n, const char *text, size_t len,
    int64_t max);
static void payment_list_bytes(uint8_t *p, uint64_t n, unsigned size);
static unsigned payment_list_digest(payment_list_t *list, int64_t from,
    int64_t to, const char *merchant, size_t merchant_len);


/* by payment_list_argument_e */

static const char  *const payment_list_names[PAYMENT_LIST_ARGUMENTS] = {
    "status",
    "currency",
    "amountMin",
    "amountMax",
    "createdFrom",
    "createdTo",
    "limit",
    "cursor"
};

static const char  payment_list_base64[] =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";


const char *
payment_list_name(payment_list_argument_e i)
{
    return payment_list_names[i];
}


payment_outcome_e
payment_list_parse(payment_list_t *list, const payment_argument_t *args,
    const char *merchant, size_t merchant_len, payment_fault_t *fault)
{
    int64_t            from, to;
    payment_outcome_e  outcome;

    memset(list, 0, sizeof(payment_list_t));

    fault->outcome = PAYMENT_OK;
    fault->field[0] = '\0';
    fault->detail[0] = '\0';

    if ((outcome = payment_list_statuses(list, &args[PAYMENT_LIST_STATUS],
                                         fault))
        != PAYMENT_OK
        || (outcome = payment_list_amounts(list, args, fault)) != PAYMENT_OK
        || (outcome = payment_list_times(&from, &to, args, fault))
           != PAYMENT_OK
        || (outcome = payment_list_rows(list, &args[PAYMENT_LIST_LIMIT],
                                        fault))
           != PAYMENT_OK)
    {
        return outcome;
    }

    payment_list_bytes(list->first, (uint64_t) from, 6);
    payment_list_bytes(list->end, (uint64_t) to, 6);

    if (!payment_list_digest(list, from, to, merchant, merchant_len)) {
        return payment_fault_set(fault, PAYMENT_UNAVAILABLE, "",
                                 "there is no memory left");
    }

    return payment_list_begin(list, &args[PAYMENT_LIST_CURSOR], fault);
}


/* Several may be asked for: names with commas between them. */

static payment_outcome_e
payment_list_statuses(payment_list_t *list, const payment_argument_t *value,
    payment_fault_t *fault)
{
    unsigned     status;
    const char  *p, *end, *last;

    if (value->text == NULL) {
        return PAYMENT_OK;
    }

    last = value->text + value->len;

    for (p = value->text; p <= last; p = end + 1) {

        end = memchr(p, ',', (size_t) (last - p));
        if (end == NULL) {
            end = last;
        }

        status = payment_list_status(p, (size_t) (end - p));

        if (status == 0) {
            return payment_fault_set(fault, PAYMENT_INVALID, "status",
                                     "status must be a payment's status, or "
                                     "several with commas between them");
        }

        list->statuses |= 1U << status;
    }

    return PAYMENT_OK;
}


/* 0: there is no status of this name */

static unsigned
payment_list_status(const char *text, size_t len)
{
    unsigned     i;
    const char  *name;

    for (i = PAYMENT_AUTHORIZED; i <= PAYMENT_VOIDED; i++) {
        name = payment_name_status((payment_status_e) i);

        if (strlen(name) == len && memcmp(name, text, len) == 0) {
            return i;
        }
    }

    return 0;
}


/* Minor units of one currency and of another cannot be compared. */

static payment_outcome_e
payment_list_amounts(payment_list_t *list, const payment_argument_t *args,
    payment_fault_t *fault)
{
    payment_outcome_e          outcome;
    const payment_argument_t  *currency;

    currency = &args[PAYMENT_LIST_CURRENCY];

    if (currency->text != NULL) {

        if (currency->len != 3
            || payment_money_exponent(currency->text, currency->len) < 0)
        {
            return payment_fault_set(fault, PAYMENT_INVALID, "currency",
                                     "currency must be an ISO 4217 code of "
                                     "three capital letters");
        }

        memcpy(list->currency, currency->text, 3);
    }

    list->amount_min = 1;
    list->amount_max = PAYMENT_AMOUNT_MAX;

    if ((outcome = payment_list_amount(&list->amount_min, args,
                                       PAYMENT_LIST_AMOUNT_MIN, fault))
        != PAYMENT_OK
        || (outcome = payment_list_amount(&list->amount_max, args,
                                          PAYMENT_LIST_AMOUNT_MAX, fault))
           != PAYMENT_OK)
    {
        return outcome;
    }

    if (list->amount_min > list->amount_max) {
        return payment_fault_set(fault, PAYMENT_INVALID, "amountMin",
                                 "amountMin must not be more than amountMax");
    }

    return PAYMENT_OK;
}


/* *amount stays as it is if none is given. */

static payment_outcome_e
payment_list_amount(int64_t *amount, const payment_argument_t *args,
    payment_list_argument_e i, payment_fault_t *fault)
{
    const char  *name;

    name = payment_list_names[i];

    if (args[i].text == NULL) {
        return PAYMENT_OK;
    }

    if (!payment_list_number(amount, args[i].text, args[i].len,
                             PAYMENT_AMOUNT_MAX))
    {
        return payment_fault_set(fault, PAYMENT_INVALID, name,
                                 "%s must be an integer of 1 to %lld minor "
                                 "units", name, (long long) PAYMENT_AMOUNT_MAX);
    }

    if (args[PAYMENT_LIST_CURRENCY].text == NULL) {
        return payment_fault_set(fault, PAYMENT_INVALID, "currency",
                                 "currency is required with %s", name);
    }

    return PAYMENT_OK;
}


static payment_outcome_e
payment_list_times(int64_t *from, int64_t *to, const payment_argument_t *args,
    payment_fault_t *fault)
{
    payment_outcome_e  outcome;

    *from = 0;
    *to = PAYMENT_LIST_TIME_END;

    if ((outcome = payment_list_time(from, args, PAYMENT_LIST_CREATED_FROM,
                                     fault))
        != PAYMENT_OK
        || (outcome = payment_list_time(to, args, PAYMENT_LIST_CREATED_TO,
                                        fault))
           != PAYMENT_OK)
    {
        return outcome;
    }

    if (*from >= *to) {
        return payment_fault_set(fault, PAYMENT_INVALID, "createdFrom",
                                 "createdFrom must be before createdTo");
    }

    return PAYMENT_OK;
}


/* *ms stays as it is if no time is given. */

static payment_outcome_e
payment_list_time(int64_t *ms, const payment_argument_t *args,
    payment_list_argument_e i, payment_fault_t *fault)
{
    if (args[i].text == NULL
        || payment_list_time_read(ms, args[i].text, args[i].len))
    {
        return PAYMENT_OK;
    }

    return payment_fault_set(fault, PAYMENT_INVALID, payment_list_names[i],
                             "%s must be a time in UTC of 1970 to 9999, such "
                             "as 2026-11-22T18:12:46Z or "
                             "2026-11-22T18:12:46.123Z", payment_list_names[i]);
}


/* What payment_render_time() writes, with a fraction of 1 to 3 digits or with
 * none.  0: the text is something else. */

static unsigned
payment_list_time_read(int64_t *ms, const char *text, size_t len)
{
    size_t    i;
    int64_t   days;
    unsigned  n[7], part, digits, year, month;

    /* a digit for each 0; the fraction is read apart */
    static const char    form[] = "0000-00-00T00:00:00";
    static const size_t  fixed = sizeof(form) - 1;

    memset(n, 0, sizeof(n));
    part = 0;

    for (i = 0; i < fixed && i < len; i++) {

        if (form[i] != '0') {

            if (text[i] != form[i]) {
                return 0;
            }

            part++;
            continue;
        }

        if (text[i] < '0' || text[i] > '9') {
            return 0;
        }

        n[part] = 10 * n[part] + (unsigned) (text[i] - '0');
    }

    if (i < len && text[i] == '.') {
        i++;

        for (digits = 0; digits < 3; digits++) {
            n[6] *= 10;

            if (i < len && text[i] >= '0' && text[i] <= '9') {
                n[6] += (unsigned) (text[i++] - '0');

            } else if (digits == 0) {
                return 0;
            }
        }
    }

    if (i < fixed || i + 1 != len || text[i] != 'Z'
        || n[0] < 1970 || n[1] < 1 || n[1] > 12
        || n[2] < 1 || n[2] > payment_list_month_days(n[0], n[1])
        || n[3] > 23 || n[4] > 59 || n[5] > 59)
    {
        return 0;
    }

    days = n[2] - 1;

    for (year = 1970; year < n[0]; year++) {
        days += payment_list_month_days(year, 2) == 29 ? 366 : 365;
    }

    for (month = 1; month < n[1]; month++) {
        days += payment_list_month_days(n[0], month);
    }

    *ms = days * PAYMENT_LIST_DAY_MS
          + (int64_t) ((n[3] * 60 + n[4]) * 60 + n[5]) * 1000 + n[6];

    return 1;
}


static unsigned
payment_list_month_days(unsigned year, unsigned month)
{
    if (month == 2) {
        return (year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)) ? 29
                                                                       : 28;
    }

    return (month == 4 || month == 6 || month == 9 || month == 11) ? 30 : 31;
}


static payment_outcome_e
payment_list_rows(payment_list_t *list, const payment_argument_t *value,
    payment_fault_t *fault)
{
    int64_t  limit;

    limit = PAYMENT_LIST_LIMIT_USUAL;

    if (value->text != NULL
        && !payment_list_number(&limit, value->text, value->len,
                                PAYMENT_LIST_LIMIT_MAX))
    {
        return payment_fault_set(fault, PAYMENT_INVALID, "limit",
                                 "limit must be an integer of 1 to %d",
                                 PAYMENT_LIST_LIMIT_MAX);
    }

    list->limit = (unsigned) limit;

    return PAYMENT_OK;
}


/* Below the last id of the page before, if there was one. */

static payment_outcome_e
payment_list_begin(payment_list_t *list, const payment_argument_t *value,
    payment_fault_t *fault)
{
    size_t       i;
    uint32_t     bits;
    uint8_t      cursor[PAYMENT_LIST_CURSOR_SIZE];
    const char  *c;

    if (value->text == NULL) {
        return PAYMENT_OK;
    }

    bits = 0;

    for (i = 0; i < value->len && i < PAYMENT_LIST_CURSOR_LEN; i++) {

        c = value->text[i] != '\0' ? strchr(payment_list_base64,
                                            value->text[i])
                                   : NULL;
        if (c == NULL) {
            break;
        }

        bits = bits << 6 | (uint32_t) (c - payment_list_base64);

        if (i % 4 == 3) {
            payment_list_bytes(&cursor[i / 4 * 3], bits & 0xffffff, 3);
        }
    }

    if (i != PAYMENT_LIST_CURSOR_LEN || value->len != i) {
        return payment_fault_set(fault, PAYMENT_INVALID, "cursor",
                                 "cursor must be the nextCursor of an answer");
    }

    if (memcmp(cursor + PAYMENT_ID_SIZE, list->digest,
               PAYMENT_LIST_DIGEST_SIZE)
        != 0)
    {
        return payment_fault_set(fault, PAYMENT_INVALID, "cursor",
                                 "cursor is of another list: of another "
                                 "merchant, or with other filters");
    }

    if (memcmp(cursor, list->end, PAYMENT_ID_SIZE) < 0) {
        memcpy(list->end, cursor, PAYMENT_ID_SIZE);
    }

    return PAYMENT_OK;
}


void
payment_list_cursor(char text[PAYMENT_LIST_CURSOR_LEN],
    const payment_list_t *list, const uint8_t id[PAYMENT_ID_SIZE])
{
    size_t    i;
    uint32_t  bits;
    uint8_t   cursor[PAYMENT_LIST_CURSOR_SIZE];

    memcpy(cursor, id, PAYMENT_ID_SIZE);
    memcpy(cursor + PAYMENT_ID_SIZE, list->digest, PAYMENT_LIST_DIGEST_SIZE);

    for (i = 0; i < PAYMENT_LIST_CURSOR_SIZE; i += 3) {
        bits = (uint32_t) cursor[i] << 16 | (uint32_t) cursor[i + 1] << 8
               | cursor[i + 2];

        *text++ = payment_list_base64[bits >> 18];
        *text++ = payment_list_base64[bits >> 12 & 0x3f];
        *text++ = payment_list_base64[bits >> 6 & 0x3f];
        *text++ = payment_list_base64[bits & 0x3f];
    }
}


/* 1 .. max, in decimal digits, without a zero before them; 0: it is not */

static unsigned
payment_list_number(int64_t *n, const char *text, size_t len, int64_t max)
{
    size_t   i;
    int64_t  number;

    if (len == 0 || text[0] == '0') {
        return 0;
    }

    number = 0;

    for (i = 0; i < len; i++) {

        if (text[i] < '0' || text[i] > '9') {
            return 0;
        }

        number = 10 * number + (text[i] - '0');

        if (number > max) {
            return 0;
        }
    }

    *n = number;

    return 1;
}


/* The last size bytes of a number, the highest first. */

static void
payment_list_bytes(uint8_t *p, uint64_t n, unsigned size)
{
    while (size != 0) {
        p[--size] = (uint8_t) n;
        n >>= 8;
    }
}


/* Of everything that decides which payments are listed, and not how many at a
 * time; the merchant, whose length is not fixed, comes last.  0: no memory. */

static unsigned
payment_list_digest(payment_list_t *list, int64_t from, int64_t to,
    const char *merchant, size_t merchant_len)
{
    uint8_t          digest[PAYMENT_HASH_SIZE], filters[2 + 3 + 4 * 8];
    payment_bytes_t  parts[2];

    filters[0] = PAYMENT_LIST_VERSION;
    filters[1] = (uint8_t) list->statuses;
    memcpy(&filters[2], list->currency, 3);
    payment_list_bytes(&filters[5], (uint64_t) list->amount_min, 8);
    payment_list_bytes(&filters[13], (uint64_t) list->amount_max, 8);
    payment_list_bytes(&filters[21], (uint64_t) from, 8);
    payment_list_bytes(&filters[29], (uint64_t) to, 8);

    parts[0].data = filters;
    parts[0].len = sizeof(filters);
    parts[1].data = merchant;
    parts[1].len = merchant_len;

    if (!payment_hash(digest, parts, 2)) {
        return 0;
    }

    memcpy(list->digest, digest, PAYMENT_LIST_DIGEST_SIZE);

    return 1;
}
