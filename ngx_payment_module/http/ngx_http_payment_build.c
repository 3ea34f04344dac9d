/*
 * The file that the running code came from: see ngx_http_payment_build.h.  It
 * is the shared object, or nginx itself where the module is compiled in.
 */

#include "ngx_http_payment_build.h"

#include <dlfcn.h>
#include <link.h>

#include "ngx_payment_version.h"


#define NGX_HTTP_PAYMENT_BUILD_ID_MAX  32       /* bytes; SHA-1 has 20 */

/* of a note in ELF: each part begins where 4 divides */
#define ngx_http_payment_build_padded(n)  (((size_t) (n) + 3) & ~(size_t) 3)


static int ngx_http_payment_build_object(struct dl_phdr_info *object,
    size_t size, void *data);
static void ngx_http_payment_build_notes(const u_char *p, size_t len);


/* the file as it was when the code was loaded; zero before the first start */
static ngx_file_info_t  ngx_http_payment_build_loaded;

static char             ngx_http_payment_build_text[
                            2 * NGX_HTTP_PAYMENT_BUILD_ID_MAX + 1] = "none";


ngx_int_t
ngx_http_payment_build_init_module(ngx_cycle_t *cycle)
{
    Dl_info           code;
    ngx_file_info_t   now, *loaded;

    loaded = &ngx_http_payment_build_loaded;

    if (dladdr(loaded, &code) == 0
        || ngx_file_info(code.dli_fname, &now) == NGX_FILE_ERROR)
    {
        return NGX_OK;
    }

    if (loaded->st_ino == 0) {
        *loaded = now;

        (void) dl_iterate_phdr(ngx_http_payment_build_object, NULL);

        ngx_log_error(NGX_LOG_NOTICE, cycle->log, 0,
                      "payment: version " NGX_PAYMENT_VERSION ", build %s, "
                      "built for " NGINX_VER ", from %s",
                      ngx_http_payment_build_text, code.dli_fname);
        return NGX_OK;
    }

    if (now.st_ino != loaded->st_ino || now.st_dev != loaded->st_dev
        || ngx_file_mtime(&now) != ngx_file_mtime(loaded))
    {
        ngx_log_error(NGX_LOG_WARN, cycle->log, 0,
                      "payment: version " NGX_PAYMENT_VERSION " runs on, "
                      "though %s was replaced: a reload does not load it; to "
                      "start it, send USR2 to this master", code.dli_fname);
    }

    return NGX_OK;
}


const char *
ngx_http_payment_build_id(void)
{
    return ngx_http_payment_build_text;
}


/* Ends the walk through all objects of the process at the one with our code. */

static int
ngx_http_payment_build_object(struct dl_phdr_info *object, size_t size,
    void *data)
{
    ngx_uint_t         i, ours;
    uintptr_t          address;
    const ElfW(Phdr)  *part;

    address = (uintptr_t) ngx_http_payment_build_text - object->dlpi_addr;
    ours = 0;

    for (i = 0; i < object->dlpi_phnum; i++) {
        part = &object->dlpi_phdr[i];

        if (part->p_type == PT_LOAD && address >= part->p_vaddr
            && address - part->p_vaddr < part->p_memsz)
        {
            ours = 1;
        }
    }

    for (i = 0; ours && i < object->dlpi_phnum; i++) {
        part = &object->dlpi_phdr[i];

        if (part->p_type == PT_NOTE) {
            ngx_http_payment_build_notes(
                (const u_char *) (object->dlpi_addr + part->p_vaddr),
                part->p_memsz);
        }
    }

    return ours;
}


static void
ngx_http_payment_build_notes(const u_char *p, size_t len)
{
    size_t             name, size;
    const ElfW(Nhdr)  *note;

    while (len >= sizeof(ElfW(Nhdr))) {
        note = (const ElfW(Nhdr) *) p;
        name = ngx_http_payment_build_padded(note->n_namesz);
        size = ngx_http_payment_build_padded(note->n_descsz);

        p += sizeof(ElfW(Nhdr));
        len -= sizeof(ElfW(Nhdr));

        if (name > len || size > len - name) {
            return;
        }

        if (note->n_type == NT_GNU_BUILD_ID
            && note->n_namesz == sizeof("GNU")
            && ngx_memcmp(p, "GNU", sizeof("GNU")) == 0
            && note->n_descsz <= NGX_HTTP_PAYMENT_BUILD_ID_MAX)
        {
            *ngx_hex_dump((u_char *) ngx_http_payment_build_text,
                          (u_char *) p + name, note->n_descsz) = '\0';
            return;
        }

        p += name + size;
        len -= name + size;
    }
}
