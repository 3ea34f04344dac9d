/*
 * A client library that has TLS and the verification of the server on by
 * default, as MariaDB Connector/C 3.4: for LD_PRELOAD, with an older one.
 */

#define _GNU_SOURCE

#include <dlfcn.h>
#include <stdlib.h>
#include <mariadb/mysql.h>


MYSQL *STDCALL
mysql_init(MYSQL *mysql)
{
    my_bool   yes;
    MYSQL *(*init)(MYSQL *mysql);

    *(void **) &init = dlsym(RTLD_NEXT, "mysql_init");

    if (init == NULL) {
        abort();
    }

    yes = 1;
    mysql = init(mysql);

    (void) mysql_options(mysql, MYSQL_OPT_SSL_ENFORCE, &yes);
    (void) mysql_options(mysql, MYSQL_OPT_SSL_VERIFY_SERVER_CERT, &yes);

    return mysql;
}
