/* What the kernel knows of a process: see ngx_http_payment_process.h. */

#include "ngx_http_payment_process.h"


/* the fields of the file that are read, by their numbers */
#define NGX_HTTP_PAYMENT_PROCESS_NAME      2
#define NGX_HTTP_PAYMENT_PROCESS_UTIME     14
#define NGX_HTTP_PAYMENT_PROCESS_STIME     15
#define NGX_HTTP_PAYMENT_PROCESS_START     22
#define NGX_HTTP_PAYMENT_PROCESS_RESIDENT  24


static ssize_t ngx_http_payment_process_file(ngx_pid_t pid, u_char *buf,
    size_t size);
static uint64_t ngx_http_payment_process_number(const u_char *p,
    const u_char *last);


ngx_int_t
ngx_http_payment_process_read(ngx_http_payment_process_t *process,
    ngx_pid_t pid)
{
    long         ticks;
    u_char      *p, *last, buf[1024];
    ssize_t      n;
    uint64_t     values[NGX_HTTP_PAYMENT_PROCESS_RESIDENT + 1];
    ngx_uint_t   field;

    n = ngx_http_payment_process_file(pid, buf, sizeof(buf));
    ticks = sysconf(_SC_CLK_TCK);

    if (n <= 0 || ticks <= 0) {
        return NGX_DECLINED;
    }

    /* the second field is a name in parentheses, of any characters */

    last = buf + n;

    for (p = last - 1; p > buf && *p != ')'; p--) { /* void */ }

    for (field = NGX_HTTP_PAYMENT_PROCESS_NAME + 1;
         field <= NGX_HTTP_PAYMENT_PROCESS_RESIDENT;
         field++)
    {
        p = ngx_strlchr(p, last, ' ');

        if (p == NULL) {
            return NGX_DECLINED;
        }

        p++;
        values[field] = ngx_http_payment_process_number(p, last);
    }

    process->cpu_ms = (values[NGX_HTTP_PAYMENT_PROCESS_UTIME]
                       + values[NGX_HTTP_PAYMENT_PROCESS_STIME])
                      * 1000 / (uint64_t) ticks;
    process->start_ms = values[NGX_HTTP_PAYMENT_PROCESS_START]
                        * 1000 / (uint64_t) ticks;
    process->resident_bytes = values[NGX_HTTP_PAYMENT_PROCESS_RESIDENT]
                              * ngx_pagesize;

    return NGX_OK;
}


static ssize_t
ngx_http_payment_process_file(ngx_pid_t pid, u_char *buf, size_t size)
{
    ssize_t   n;
    ngx_fd_t  fd;
    u_char    name[sizeof("/proc//stat") + NGX_INT64_LEN];

    (void) ngx_sprintf(name, "/proc/%P/stat%Z", pid);

    fd = ngx_open_file(name, NGX_FILE_RDONLY, NGX_FILE_OPEN, 0);

    if (fd == NGX_INVALID_FILE) {
        return -1;
    }

    n = ngx_read_fd(fd, buf, size);
    (void) ngx_close_file(fd);

    return n;
}


/* 0 for a field that is negative, or no number. */

static uint64_t
ngx_http_payment_process_number(const u_char *p, const u_char *last)
{
    uint64_t  value;

    for (value = 0; p < last && *p >= '0' && *p <= '9'; p++) {
        value = value * 10 + (uint64_t) (*p - '0');
    }

    return value;
}
