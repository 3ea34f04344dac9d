/*
 * Texts: UTF-8 is checked here, character by character, and written as JSON
 * strings.  All other files of payment/ take the meaning of a byte from here.
 *
 * Pure; any process.
 */

#include <string.h>

#include "payment.h"


static int payment_text_is_control(uint32_t c, unsigned breaks);
static int payment_text_is_blank(uint32_t c);


unsigned
payment_text_decode(uint32_t *character, const char *text, size_t len)
{
    unsigned              i, n;
    uint32_t              c, least;
    const unsigned char  *p;

    if (len == 0) {
        return 0;
    }

    p = (const unsigned char *) text;
    c = p[0];

    if (c < 0x80) {
        *character = c;
        return 1;
    }

    if (c >= 0xc2 && c < 0xe0) {
        n = 2;
        c &= 0x1f;
        least = 0x80;

    } else if (c >= 0xe0 && c < 0xf0) {
        n = 3;
        c &= 0x0f;
        least = 0x800;

    } else if (c >= 0xf0 && c < 0xf5) {
        n = 4;
        c &= 0x07;
        least = 0x10000;

    } else {
        return 0;
    }

    if (len < n) {
        return 0;
    }

    for (i = 1; i < n; i++) {

        if ((p[i] & 0xc0) != 0x80) {
            return 0;
        }

        c = c << 6 | (p[i] & 0x3f);
    }

    /* overlong, a surrogate, or beyond Unicode */

    if (c < least || (c >= 0xd800 && c < 0xe000) || c > 0x10ffff) {
        return 0;
    }

    *character = c;

    return n;
}


int
payment_text_valid(const char *text, size_t len, size_t chars_max,
    unsigned breaks)
{
    size_t    i, chars;
    uint32_t  c;
    unsigned  n, blank;

    blank = 1;
    chars = 0;

    for (i = 0; i < len; i += n) {
        n = payment_text_decode(&c, text + i, len - i);

        if (n == 0 || ++chars > chars_max
            || payment_text_is_control(c, breaks))
        {
            return 0;
        }

        if (!payment_text_is_blank(c)) {
            blank = 0;
        }
    }

    return !blank;
}


int
payment_text_plain(const char *text, size_t len, unsigned breaks)
{
    size_t    i;
    uint32_t  c;
    unsigned  n;

    for (i = 0; i < len; i += n) {
        n = payment_text_decode(&c, text + i, len - i);

        if (n == 0 || payment_text_is_control(c, breaks)) {
            return 0;
        }
    }

    return 1;
}


static int
payment_text_is_control(uint32_t c, unsigned breaks)
{
    if (breaks && (c == '\t' || c == '\n' || c == '\r')) {
        return 0;
    }

    return c < 0x20 || (c >= 0x7f && c < 0xa0);
}


/* Unicode's White_Space, without the control characters among it. */

static int
payment_text_is_blank(uint32_t c)
{
    if (c < 0xa0) {
        return c <= ' ';
    }

    return c == 0xa0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200a)
           || c == 0x2028 || c == 0x2029 || c == 0x202f || c == 0x205f
           || c == 0x3000;
}


/*
 * A question mark stands for whatever a reader of the sentence could not see or
 * would misread.
 */

void
payment_text_show(char show[PAYMENT_FIELD_SIZE], const char *text, size_t len)
{
    size_t    i, used;
    uint32_t  c;
    unsigned  n;

    used = 0;

    for (i = 0; i < len; i += n) {
        n = payment_text_decode(&c, text + i, len - i);

        if (n == 0 || payment_text_is_control(c, 0) || c == '"' || c == '\\') {
            n = n ? n : 1;

            if (used + 1 >= PAYMENT_FIELD_SIZE) {
                break;
            }

            show[used++] = '?';
            continue;
        }

        if (used + n >= PAYMENT_FIELD_SIZE) {
            break;
        }

        memcpy(show + used, text + i, n);
        used += n;
    }

    show[used] = '\0';
}


/*
 * The escapes are the shortest, and only those that RFC 8259 demands.  A byte
 * that is not UTF-8 becomes U+FFFD, so that the output is always valid JSON.
 */

char *
payment_text_json(char *p, const char *text, size_t len)
{
    size_t         i;
    unsigned       n;
    uint32_t       character;
    unsigned char  c;

    static const char  hex[] = "0123456789abcdef";
    static const char  replacement[] = "\xef\xbf\xbd";

    *p++ = '"';

    for (i = 0; i < len; i += n) {
        c = (unsigned char) text[i];
        n = 1;

        if (c >= 0x20 && c < 0x80) {

            if (c == '"' || c == '\\') {
                *p++ = '\\';
            }

            *p++ = (char) c;
            continue;
        }

        if (c >= 0x80) {
            n = payment_text_decode(&character, text + i, len - i);

            if (n == 0) {
                memcpy(p, replacement, sizeof(replacement) - 1);
                p += sizeof(replacement) - 1;
                n = 1;
                continue;
            }

            memcpy(p, text + i, n);
            p += n;
            continue;
        }

        *p++ = '\\';

        switch (c) {

        case '\b':
            *p++ = 'b';
            break;

        case '\f':
            *p++ = 'f';
            break;

        case '\n':
            *p++ = 'n';
            break;

        case '\r':
            *p++ = 'r';
            break;

        case '\t':
            *p++ = 't';
            break;

        default:
            *p++ = 'u';
            *p++ = '0';
            *p++ = '0';
            *p++ = hex[c >> 4];
            *p++ = hex[c & 0x0f];
        }
    }

    *p++ = '"';

    return p;
}
