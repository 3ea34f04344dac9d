/* What a server must have: see ngx_payment_requirement.h. */

#include "ngx_payment_requirement.h"


/* SELECT .. FOR UPDATE SKIP LOCKED is what the first of them brought */
#define NGX_PAYMENT_REQUIREMENT_MAJOR   10
#define NGX_PAYMENT_REQUIREMENT_MINOR   6

/* seconds that a server's clock may be from ours */
#define NGX_PAYMENT_REQUIREMENT_FAR     (12 * 3600)
#define NGX_PAYMENT_REQUIREMENT_OFF     60


static ngx_uint_t ngx_payment_requirement_version(const char *text);
static ngx_uint_t ngx_payment_requirement_clock(const char *text, time_t most);
static time_t ngx_payment_requirement_off(const char *text);


/* In order of ngx_payment_requirement_e.  Where a server has a variable in
 * several spellings (0, OFF), good has them all. */

const ngx_payment_requirement_t
    ngx_payment_requirements[NGX_PAYMENT_REQUIREMENTS] =
{
    { "version", "@@version", NULL,
      "MariaDB 10.6 or later is needed", 0, 0, 0 },

    { "read_only", "@@global.read_only", "|0|OFF|",
      "the server takes no payments", 0, 0, 0 },

    { "innodb_read_only", "@@global.innodb_read_only", "|0|OFF|",
      "the server takes no payments", 0, 0, 0 },

    { "innodb_force_recovery", "@@global.innodb_force_recovery", "|0|",
      "the server is being repaired", 0, 0, 0 },

    /* READ COMMITTED and statements in the binary log do not go together */
    { "binlog_format",
      "IF(@@global.log_bin, @@global.binlog_format, '')",
      "||ROW|MIXED|",
      "with a binary log it must be ROW or MIXED", 0, 0, 0 },

    { "innodb_flush_log_at_trx_commit",
      "@@global.innodb_flush_log_at_trx_commit", "|1|3|",
      "not 1: a crash can lose payments that were answered", 1, 0, 0 },

    /* what the binary log has lost is rolled back by the recovery */
    { "sync_binlog",
      "IF(@@global.log_bin, @@global.sync_binlog, 1)", "|1|",
      "not 1: with a binary log, a crash can lose payments that were "
      "answered", 1, 1, 0 },

    /* what makes a commit wait until a replica has it, for as long as that
     * takes */

    { "log_bin", "@@global.log_bin", "|1|ON|",
      "without a binary log there are no replicas", 0, 1, 0 },

    { "gtid_strict_mode", "@@global.gtid_strict_mode", "|1|ON|",
      "two histories would mix", 0, 1, 0 },

    { "rpl_semi_sync_master_enabled",
      "@@global.rpl_semi_sync_master_enabled", "|1|ON|",
      "the server does not wait for replicas", 0, 1, 0 },

    { "rpl_semi_sync_master_wait_point",
      "@@global.rpl_semi_sync_master_wait_point", "|AFTER_SYNC|",
      "payments would be seen before a replica has them", 0, 1, 0 },

    { "rpl_semi_sync_master_wait_no_slave",
      "@@global.rpl_semi_sync_master_wait_no_slave", "|1|ON|",
      "the server does not wait while it has no replica", 0, 1, 0 },

    { "rpl_semi_sync_master_timeout",
      "IF(@@global.rpl_semi_sync_master_timeout >= "
      NGX_PAYMENT_REQUIREMENT_PATIENCE ", 'long',"
      " @@global.rpl_semi_sync_master_timeout)", "|long|",
      "the server would stop to wait for replicas within the hour", 0, 1, 0 },

    /* a user sees there what may be executed, and nothing else */
    { "EXECUTE",
      "(SELECT IF(COUNT(*), 'granted', 'missing')"
      " FROM information_schema.routines WHERE routine_schema = DATABASE()"
      " AND routine_name = 'outbox_archive_upkeep')", "|granted|",
      "on PROCEDURE outbox_archive_upkeep: the archive gets no new partitions "
      "and loses no old ones", 1, 0, 1 },

    /* what is kept for a time is as old as the clocks of nodes and servers say:
     * half a day is never right, and a minute is told of */

    { "timestamp", "UNIX_TIMESTAMP()", NULL,
      "idempotency keys would be forgotten too early", 0, 0, 0 },

    { "timestamp", "UNIX_TIMESTAMP()", NULL,
      "payments and events have wrong times", 1, 0, 0 }
};


ngx_uint_t
ngx_payment_requirement_met(ngx_payment_requirement_e i, const char *text)
{
    size_t       len;
    const char  *p;

    switch (i) {

    case NGX_PAYMENT_REQUIREMENT_VERSION:
        return ngx_payment_requirement_version(text);

    case NGX_PAYMENT_REQUIREMENT_DAY:
        return ngx_payment_requirement_clock(text,
                                             NGX_PAYMENT_REQUIREMENT_FAR - 1);

    case NGX_PAYMENT_REQUIREMENT_CLOCK:
        return ngx_payment_requirement_clock(text,
                                             NGX_PAYMENT_REQUIREMENT_OFF);

    default:
        break;
    }

    len = ngx_strlen(text);

    for (p = ngx_payment_requirements[i].good; p[1]; p = strchr(p + 1, '|')) {

        if (strncmp(p + 1, text, len) == 0 && p[1 + len] == '|') {
            return 1;
        }
    }

    return 0;
}


/* "10.11.6-MariaDB-0+deb12u1"; other servers than MariaDB lack what is used */

static ngx_uint_t
ngx_payment_requirement_version(const char *text)
{
    char           *end;
    unsigned long   major, minor;

    major = strtoul(text, &end, 10);
    minor = (*end == '.') ? strtoul(end + 1, NULL, 10) : 0;

    return strstr(text, "MariaDB") != NULL
           && (major > NGX_PAYMENT_REQUIREMENT_MAJOR
               || (major == NGX_PAYMENT_REQUIREMENT_MAJOR
                   && minor >= NGX_PAYMENT_REQUIREMENT_MINOR));
}


static ngx_uint_t
ngx_payment_requirement_clock(const char *text, time_t most)
{
    time_t  off;

    off = ngx_payment_requirement_off(text);

    return off <= most && off >= -most;
}


/* "1796072564", and what time it is here */

static time_t
ngx_payment_requirement_off(const char *text)
{
    return (time_t) strtoll(text, NULL, 10) - time(NULL);
}


/* A reason is told again when its text is another: so hours are enough. */

void
ngx_payment_requirement_say(ngx_payment_requirement_e i, char *text, size_t len)
{
    time_t  off, unit;

    if (i != NGX_PAYMENT_REQUIREMENT_DAY && i != NGX_PAYMENT_REQUIREMENT_CLOCK)
    {
        return;
    }

    off = ngx_payment_requirement_off(text);
    unit = (i == NGX_PAYMENT_REQUIREMENT_DAY) ? 3600 : 1;

    (void) snprintf(text, len, "%lld %s %s this node's clock",
                    (long long) ((off < 0 ? -off : off) / unit),
                    unit == 1 ? "s" : "h", off < 0 ? "behind" : "ahead of");
}
