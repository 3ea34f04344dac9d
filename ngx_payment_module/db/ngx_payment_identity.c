/*
 * A database's identity: see ngx_payment_identity.h.
 *
 * What the processes know together is in shared memory (ngx_payment_common.h):
 * of each shard the digest of the database that was found to be its own, or
 * that was found to be nobody's.
 */

#include "ngx_payment_identity.h"

#include <sys/random.h>


/* payments at the end of the table that tell whose a database is */
#define NGX_PAYMENT_IDENTITY_SAMPLE     "1000"

/* of a list of slots, what a message shows */
#define NGX_PAYMENT_IDENTITY_SLOTS      "%.40s"


static const char *ngx_payment_identity_unclaimed(
    const ngx_payment_shard_t *shard, char *reason, size_t len);
static ngx_atomic_uint_t ngx_payment_identity_digest(
    const ngx_payment_shard_t *shard);
static ngx_atomic_uint_t ngx_payment_identity_half(const char *installation);
static ngx_int_t ngx_payment_identity_read(ngx_payment_identity_t *id,
    MYSQL *mysql, char *message, size_t len);
static ngx_int_t ngx_payment_identity_claim(ngx_payment_identity_t *id,
    MYSQL *mysql, char *message, size_t len);
static ngx_int_t ngx_payment_identity_sample(ngx_payment_identity_t *id,
    MYSQL *mysql, char *message, size_t len);
static ngx_uint_t ngx_payment_identity_has(const char *slots, ngx_uint_t slot);
static ngx_int_t ngx_payment_identity_make(ngx_payment_identity_t *id);


/* the installation, once a connection of this process has seen it */

static struct {
    char     text[NGX_PAYMENT_UUID_LEN + 1];
    u_char   secret[NGX_PAYMENT_SECRET_LEN];
} ngx_payment_identity_known;


void
ngx_payment_identity_expect(const ngx_payment_shard_t *shard,
    ngx_payment_identity_t *id)
{
    if (ngx_payment_identity_known.text[0]) {
        ngx_memcpy(id->installation, ngx_payment_identity_known.text,
                   sizeof(id->installation));
        ngx_memcpy(id->secret, ngx_payment_identity_known.secret,
                   NGX_PAYMENT_SECRET_LEN);
    }

    id->unclaimed = ngx_payment_identity_unclaimed(shard, id->reason,
                                                   sizeof(id->reason));
}


static const char *
ngx_payment_identity_unclaimed(const ngx_payment_shard_t *shard, char *reason,
    size_t len)
{
    ngx_uint_t                 i;
    ngx_atomic_uint_t          digest;
    ngx_payment_shard_t      **peers;

    if (shard->belongs_to.len) {
        return "\"installation\" says whose it is to be already";
    }

    if (shard->common->place) {
        return "the shard has had another one since nginx was started";
    }

    peers = shard->peers->elts;

    for (i = 0; i < shard->peers->nelts; i++) {
        digest = ngx_payment_identity_digest(peers[i]);

        if (peers[i] != shard && peers[i]->common->place != digest
            && peers[i]->common->empty != digest)
        {
            (void) snprintf(reason, len, "the database of shard \"%s\" "
                            "was not seen yet, or is not that shard's",
                            peers[i]->name.data);
            return reason;
        }
    }

    if (ngx_payment_identity_known.text[0] == '\0'
        && (shard->installation[0]
            || !ngx_payment_identity_has((char *) shard->slots_text.data, 0)))
    {
        return "the database of the shard with slot 0 comes first";
    }

    return NULL;
}


static ngx_atomic_uint_t
ngx_payment_identity_digest(const ngx_payment_shard_t *shard)
{
    uint32_t  crc;

    ngx_crc32_init(crc);
    ngx_crc32_update(&crc, shard->database.data, shard->database.len + 1);
    ngx_crc32_update(&crc, shard->slots_text.data, shard->slots_text.len);
    ngx_crc32_final(crc);

    return crc ? crc : 1;
}


/* back in the event loop */

ngx_int_t
ngx_payment_identity_found(ngx_payment_shard_t *shard,
    const ngx_payment_identity_t *id, char *message, size_t len)
{
    ngx_atomic_t       *installation;
    ngx_atomic_uint_t   half;

    half = ngx_payment_identity_half(id->installation);
    installation = shard->installation;

    if (*installation != half
        && !ngx_atomic_cmp_set(installation, 0, half))
    {
        (void) snprintf(message, len,
                        "the database \"%s\" belongs to installation %s, "
                        "another shard's to installation %08x-%04x-%04x-..",
                        id->database, id->installation,
                        (unsigned) (*installation >> 32),
                        (unsigned) (*installation >> 16 & 0xffff),
                        (unsigned) (*installation & 0xffff));
        return NGX_ERROR;
    }

    shard->common->place = ngx_payment_identity_digest(shard);

    ngx_memcpy(shard->secret, id->secret, NGX_PAYMENT_SECRET_LEN);
    ngx_memcpy(ngx_payment_identity_known.text, id->installation,
               sizeof(id->installation));
    ngx_memcpy(ngx_payment_identity_known.secret, id->secret,
               NGX_PAYMENT_SECRET_LEN);

    return NGX_OK;
}


void
ngx_payment_identity_nobodys(ngx_payment_shard_t *shard)
{
    shard->common->empty = ngx_payment_identity_digest(shard);
}


/* the first 16 of a UUID's 32 digits */

static ngx_atomic_uint_t
ngx_payment_identity_half(const char *installation)
{
    char               c;
    ngx_uint_t         n;
    ngx_atomic_uint_t  half;

    half = 0;

    for (n = 0; n < 16 && (c = *installation) != '\0'; installation++) {
        if (c == '-') {
            continue;
        }

        c |= 0x20;
        half = half << 4 | (ngx_atomic_uint_t) (c >= 'a' ? c - 'a' + 10
                                                         : c & 0x0f);
        n++;
    }

    return half ? half : 1;
}


/* in the attempt's thread */

ngx_int_t
ngx_payment_identity_check(ngx_payment_identity_t *id, MYSQL *mysql,
    char *message, size_t len)
{
    ngx_int_t  rc;

    rc = ngx_payment_identity_read(id, mysql, message, len);

    if (rc != NGX_DECLINED) {
        return rc;
    }

    id->nobodys = 1;

    if (id->unclaimed) {
        (void) snprintf(message, len,
                        "the database \"%s\" has no identity, and gets none "
                        "for shard \"%s\": %s", id->database, id->shard,
                        id->unclaimed);
        return NGX_ERROR;
    }

    rc = ngx_payment_identity_claim(id, mysql, message, len);

    if (rc != 0) {
        return rc;
    }

    /* it may be somebody's who was quicker */

    rc = ngx_payment_identity_read(id, mysql, message, len);

    if (rc == NGX_DECLINED) {
        (void) snprintf(message, len, "the database \"%s\" lost its identity "
                        "at this moment", id->database);
        return NGX_ERROR;
    }

    return rc;
}


/* 0: it is ours.  NGX_DECLINED: it is nobody's. */

static ngx_int_t
ngx_payment_identity_read(ngx_payment_identity_t *id, MYSQL *mysql,
    char *message, size_t len)
{
    MYSQL_ROW   row;
    MYSQL_RES  *res;

    if (mysql_query(mysql, "SELECT installation, shard, slots, secret"
                           " FROM payment_identity")
        || (res = mysql_store_result(mysql)) == NULL)
    {
        return mysql_errno(mysql);
    }

    row = mysql_fetch_row(res);

    if (row == NULL) {
        mysql_free_result(res);
        return NGX_DECLINED;
    }

    if (ngx_strcmp(row[1], id->shard) != 0
        || ngx_strcmp(row[2], id->slots) != 0)
    {
        (void) snprintf(message, len,
                        "the database \"%s\" is shard \"%s\" with slots "
                        NGX_PAYMENT_IDENTITY_SLOTS ", the configuration says "
                        "shard \"%s\" with slots " NGX_PAYMENT_IDENTITY_SLOTS,
                        id->database, row[1], row[2], id->shard, id->slots);
        mysql_free_result(res);
        return NGX_ERROR;
    }

    if (id->belongs_to[0] && ngx_strcmp(row[0], id->belongs_to) != 0) {
        (void) snprintf(message, len,
                        "the database \"%s\" belongs to installation %.36s, "
                        "the configuration says %s", id->database, row[0],
                        id->belongs_to);
        mysql_free_result(res);
        return NGX_ERROR;
    }

    (void) ngx_cpystrn((u_char *) id->installation, (u_char *) row[0],
                       sizeof(id->installation));
    ngx_memcpy(id->secret, row[3], NGX_PAYMENT_SECRET_LEN);

    mysql_free_result(res);

    return 0;
}


static ngx_int_t
ngx_payment_identity_claim(ngx_payment_identity_t *id, MYSQL *mysql,
    char *message, size_t len)
{
    char       *sql;
    u_char     *p, hex[2 * NGX_PAYMENT_SECRET_LEN];
    ngx_int_t   rc;

    rc = ngx_payment_identity_sample(id, mysql, message, len);

    if (rc != 0) {
        return rc;
    }

    if (id->installation[0] == '\0'
        && ngx_payment_identity_make(id) != NGX_OK)
    {
        (void) snprintf(message, len, "the system gives no random bytes");
        return NGX_ERROR;
    }

    p = ngx_hex_dump(hex, id->secret, NGX_PAYMENT_SECRET_LEN);

    /* a shard's name and slots have no character that SQL minds */

    if (asprintf(&sql, "INSERT IGNORE INTO payment_identity"
                       " (installation, shard, slots, secret)"
                       " VALUES ('%s', '%s', '%s', x'%.*s')",
                 id->installation, id->shard, id->slots,
                 (int) (p - hex), hex)
        == -1)
    {
        (void) snprintf(message, len, "out of memory");
        return NGX_ERROR;
    }

    rc = mysql_query(mysql, sql) ? (ngx_int_t) mysql_errno(mysql) : 0;

    ngx_explicit_memzero(sql, ngx_strlen(sql));
    free(sql);

    return rc;
}


/* Payments of other slots were made for somebody else. */

static ngx_int_t
ngx_payment_identity_sample(ngx_payment_identity_t *id, MYSQL *mysql,
    char *message, size_t len)
{
    ngx_int_t    rc;
    MYSQL_ROW    row;
    MYSQL_RES   *res;

    if (mysql_query(mysql,
                    "SELECT DISTINCT (ORD(SUBSTR(id, 9, 1)) & 63) << 4"
                    " | ORD(SUBSTR(id, 10, 1)) >> 4 FROM (SELECT id"
                    " FROM payment ORDER BY id DESC"
                    " LIMIT " NGX_PAYMENT_IDENTITY_SAMPLE ") AS latest")
        || (res = mysql_store_result(mysql)) == NULL)
    {
        return mysql_errno(mysql);
    }

    rc = 0;

    while ((row = mysql_fetch_row(res)) != NULL) {

        if (!ngx_payment_identity_has(id->slots, (ngx_uint_t) atoi(row[0]))) {
            (void) snprintf(message, len,
                            "the database \"%s\" has no identity, but "
                            "payments of slot %s; the configuration says "
                            "shard \"%s\" with slots "
                            NGX_PAYMENT_IDENTITY_SLOTS,
                            id->database, row[0], id->shard, id->slots);
            rc = NGX_ERROR;
            break;
        }
    }

    mysql_free_result(res);

    return rc;
}


/* slots: "0-511 700-799" */

static ngx_uint_t
ngx_payment_identity_has(const char *slots, ngx_uint_t slot)
{
    char           *end;
    unsigned long   first, last;

    for ( ;; ) {
        first = strtoul(slots, &end, 10);

        if (end == slots) {
            return 0;
        }

        last = (*end == '-') ? strtoul(end + 1, &end, 10) : first;

        if (slot >= first && slot <= last) {
            return 1;
        }

        slots = end;
    }
}


static ngx_int_t
ngx_payment_identity_make(ngx_payment_identity_t *id)
{
    u_char  b[16];

    if (getrandom(b, sizeof(b), 0) != (ssize_t) sizeof(b)
        || getrandom(id->secret, NGX_PAYMENT_SECRET_LEN, 0)
           != NGX_PAYMENT_SECRET_LEN)
    {
        return NGX_ERROR;
    }

    b[6] = (u_char) (0x40 | (b[6] & 0x0f));         /* version 4 */
    b[8] = (u_char) (0x80 | (b[8] & 0x3f));         /* RFC 9562's variant */

    (void) snprintf(id->installation, sizeof(id->installation),
                    "%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-"
                    "%02x%02x%02x%02x%02x%02x",
                    b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7], b[8],
                    b[9], b[10], b[11], b[12], b[13], b[14], b[15]);

    return NGX_OK;
}
