/* Files that the configuration names: see ngx_http_payment_file.h. */

#include "ngx_http_payment_file.h"

#include <grp.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <pwd.h>


/* of a group list that is put aside; Linux allows more, nobody has them */
#define NGX_HTTP_PAYMENT_FILE_GROUPS_MAX  1024


/* Who this process was before it took the workers' user for a moment. */

typedef struct {
    gid_t    gid;
    int      n;
    gid_t    groups[NGX_HTTP_PAYMENT_FILE_GROUPS_MAX];
} ngx_http_payment_file_root_t;


static ssize_t ngx_http_payment_file_read(ngx_conf_t *cf,
    const ngx_str_t *name, u_char *buf, size_t size);
static ngx_int_t ngx_http_payment_file_become(ngx_conf_t *cf,
    ngx_http_payment_file_root_t *root, const char *user, uid_t uid,
    gid_t gid);
static void ngx_http_payment_file_return(ngx_conf_t *cf,
    ngx_http_payment_file_root_t *root);
static X509 *ngx_http_payment_file_certificate(const ngx_str_t *name);
static EVP_PKEY *ngx_http_payment_file_private_key(const ngx_str_t *name);
static int ngx_http_payment_file_passphrase(char *buf, int size, int rwflag,
    void *data);


ngx_int_t
ngx_http_payment_file_secret(ngx_conf_t *cf, const ngx_str_t *name,
    ngx_str_t *secret, size_t max)
{
    u_char   *p, *buf;
    ssize_t   len;
    char     *wrong;

    static const u_char  bom[] = { 0xef, 0xbb, 0xbf };

    /* room for a line's end, and for one byte that shows that there is more */

    buf = ngx_pnalloc(cf->temp_pool, max + sizeof("\r\n"));
    if (buf == NULL) {
        return NGX_ERROR;
    }

    len = ngx_http_payment_file_read(cf, name, buf, max + sizeof("\r\n"));

    if (len == NGX_ERROR) {
        ngx_explicit_memzero(buf, max + sizeof("\r\n"));
        return NGX_ERROR;
    }

    if (len && buf[len - 1] == LF) {
        len--;

        if (len && buf[len - 1] == CR) {
            len--;
        }
    }

    wrong = NULL;

    if (len == 0) {
        wrong = "is empty";

    } else if (len >= (ssize_t) sizeof(bom)
               && ngx_memcmp(buf, bom, sizeof(bom)) == 0)
    {
        wrong = "begins with a byte order mark";

    } else if ((size_t) len > max) {
        wrong = "is too long";

    } else if (ngx_strlchr(buf, buf + len, LF)) {
        wrong = "has more than one line";

    } else if (ngx_strlchr(buf, buf + len, '\0')) {
        wrong = "has a null character";
    }

    if (wrong == NULL) {
        p = ngx_pnalloc(cf->pool, len + 1);

        if (p) {
            *ngx_cpymem(p, buf, len) = '\0';

            secret->len = len;
            secret->data = p;
        }

    } else {
        p = NULL;
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "file \"%V\" %s, it must hold one line of 1 to %uz "
                           "bytes", name, wrong, max);
    }

    ngx_explicit_memzero(buf, max + sizeof("\r\n"));

    return p ? NGX_OK : NGX_ERROR;
}


/* The length of what was read, at most size; or NGX_ERROR. */

static ssize_t
ngx_http_payment_file_read(ngx_conf_t *cf, const ngx_str_t *name, u_char *buf,
    size_t size)
{
    size_t    len;
    ssize_t   n;
    ngx_fd_t  fd;

    fd = ngx_open_file(name->data, NGX_FILE_RDONLY, NGX_FILE_OPEN, 0);

    if (fd == NGX_INVALID_FILE) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, ngx_errno,
                           ngx_open_file_n " \"%V\" failed", name);
        return NGX_ERROR;
    }

    n = 0;

    for (len = 0; len < size; len += n) {
        n = ngx_read_fd(fd, buf + len, size - len);

        if (n == -1) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, ngx_errno,
                               ngx_read_fd_n " \"%V\" failed", name);
            break;
        }

        if (n == 0) {
            break;
        }
    }

    if (ngx_close_file(fd) == NGX_FILE_ERROR) {
        ngx_conf_log_error(NGX_LOG_ALERT, cf, ngx_errno,
                           ngx_close_file_n " \"%V\" failed", name);
    }

    return n == -1 ? NGX_ERROR : (ssize_t) len;
}


/*
 * Also if no "user" was given yet: a configuration that gives it after http{}
 * has to give it before.
 */

ngx_int_t
ngx_http_payment_file_readable(ngx_conf_t *cf, const ngx_str_t *name,
    const char *directive)
{
    ngx_fd_t                       fd;
    ngx_err_t                      err;
    const char                    *user;
    struct passwd                 *pwd;
    ngx_core_conf_t               *ccf;
    ngx_http_payment_file_root_t   root;

    ccf = (ngx_core_conf_t *) ngx_get_conf(cf->cycle->conf_ctx,
                                           ngx_core_module);
    user = ccf->username ? ccf->username : NGX_USER;
    pwd = (geteuid() == 0) ? getpwnam(user) : NULL;

    /* a master that is not root has no other user to run the workers as */

    if (pwd == NULL || pwd->pw_uid == 0) {
        pwd = NULL;
        user = "";

    } else if (ngx_http_payment_file_become(cf, &root, user, pwd->pw_uid,
                                            ccf->username ? ccf->group
                                                          : pwd->pw_gid)
               != NGX_OK)
    {
        return NGX_OK;
    }

    fd = ngx_open_file(name->data, NGX_FILE_RDONLY, NGX_FILE_OPEN, 0);
    err = ngx_errno;

    if (pwd) {
        ngx_http_payment_file_return(cf, &root);
    }

    if (fd == NGX_INVALID_FILE) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, err,
                           ngx_open_file_n " \"%V\" of \"%s\" failed%s%s",
                           name, directive,
                           pwd ? " for the workers' user, " : "", user);
        return NGX_ERROR;
    }

    if (ngx_close_file(fd) == NGX_FILE_ERROR) {
        ngx_conf_log_error(NGX_LOG_ALERT, cf, ngx_errno,
                           ngx_close_file_n " \"%V\" failed", name);
    }

    return NGX_OK;
}


/* NGX_DECLINED: this process may not change its user; it is who it was. */

static ngx_int_t
ngx_http_payment_file_become(ngx_conf_t *cf,
    ngx_http_payment_file_root_t *root, const char *user, uid_t uid, gid_t gid)
{
    root->gid = getegid();
    root->n = getgroups(NGX_HTTP_PAYMENT_FILE_GROUPS_MAX, root->groups);

    if (root->n == -1 || initgroups(user, gid) == -1) {
        return NGX_DECLINED;
    }

    if (setegid(gid) == -1 || seteuid(uid) == -1) {
        ngx_http_payment_file_return(cf, root);
        return NGX_DECLINED;
    }

    return NGX_OK;
}


static void
ngx_http_payment_file_return(ngx_conf_t *cf,
    ngx_http_payment_file_root_t *root)
{
    if (seteuid(0) == -1 || setegid(root->gid) == -1
        || setgroups(root->n, root->groups) == -1)
    {
        /* a master that is not root any more must not go on as one */

        ngx_log_error(NGX_LOG_EMERG, cf->log, ngx_errno,
                      "payment: the master could not become root again");
        exit(2);
    }
}


ngx_int_t
ngx_http_payment_file_certificates(ngx_conf_t *cf, const ngx_str_t *name,
    const char *directive)
{
    X509  *certificate;

    certificate = ngx_http_payment_file_certificate(name);

    if (certificate == NULL) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "there is no certificate in PEM in file \"%V\" of "
                           "\"%s\"", name, directive);
        return NGX_ERROR;
    }

    if (X509_cmp_current_time(X509_get0_notBefore(certificate)) > 0
        || X509_cmp_current_time(X509_get0_notAfter(certificate)) < 0)
    {
        ngx_conf_log_error(NGX_LOG_WARN, cf, 0,
                           "the first certificate in file \"%V\" of \"%s\" is "
                           "not valid now: it has expired, or this machine's "
                           "clock is wrong", name, directive);
    }

    X509_free(certificate);

    return NGX_OK;
}


ngx_int_t
ngx_http_payment_file_key(ngx_conf_t *cf, const ngx_str_t *certificate,
    const ngx_str_t *key)
{
    X509      *x509;
    EVP_PKEY  *pkey;
    ngx_int_t  rc;

    x509 = ngx_http_payment_file_certificate(certificate);
    pkey = ngx_http_payment_file_private_key(key);

    rc = (x509 && pkey && X509_check_private_key(x509, pkey) == 1)
         ? NGX_OK : NGX_ERROR;

    if (rc != NGX_OK) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           pkey ? "the key in file \"%V\" is not that of the "
                                  "certificate in file \"%V\""
                                : "there is no key in PEM that needs no "
                                  "passphrase in file \"%V\"",
                           key, certificate);
    }

    X509_free(x509);
    EVP_PKEY_free(pkey);

    /* no error of ours may be taken for one of nginx's connections later */

    ERR_clear_error();

    return rc;
}


static X509 *
ngx_http_payment_file_certificate(const ngx_str_t *name)
{
    BIO   *bio;
    X509  *certificate;

    bio = BIO_new_file((char *) name->data, "r");
    certificate = bio ? PEM_read_bio_X509_AUX(bio, NULL, NULL, NULL) : NULL;

    BIO_free(bio);
    ERR_clear_error();

    return certificate;
}


static EVP_PKEY *
ngx_http_payment_file_private_key(const ngx_str_t *name)
{
    BIO       *bio;
    EVP_PKEY  *key;

    bio = BIO_new_file((char *) name->data, "r");
    key = bio ? PEM_read_bio_PrivateKey(bio, NULL,
                                        ngx_http_payment_file_passphrase, NULL)
              : NULL;

    BIO_free(bio);
    ERR_clear_error();

    return key;
}


/* Without this, OpenSSL would ask at the terminal. */

static int
ngx_http_payment_file_passphrase(char *buf, int size, int rwflag, void *data)
{
    return -1;
}
