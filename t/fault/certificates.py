"""Certificates for the TLS tests, made by openssl: two authorities, and for
the server a good one, an expired one, one of another host, one of the other
authority."""

import subprocess


def openssl(directory, *arguments):
    subprocess.run(['openssl', *arguments], cwd=directory, check=True,
                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                   timeout=60)


def make(directory):
    directory.mkdir(parents=True, exist_ok=True)

    for name in ('ca', 'other-ca'):
        openssl(directory, 'req', '-x509', '-newkey', 'ec', '-pkeyopt',
                'ec_paramgen_curve:P-256', '-nodes', '-keyout', f'{name}.key',
                '-out', f'{name}.crt', '-days', '30', '-subj', f'/CN={name}')

    here = 'subjectAltName=DNS:localhost,IP:127.0.0.1,IP:::1'

    _sign(directory, 'good', 'ca', here)
    _sign(directory, 'unknown', 'other-ca', here)
    _sign(directory, 'elsewhere', 'ca', 'subjectAltName=DNS:db.example.com')
    _sign(directory, 'expired', 'ca', here, _yesterday())
    _sign(directory, 'client', 'ca', 'extendedKeyUsage=clientAuth')

    return directory


def _yesterday():
    """OpenSSL 3.4 has options for the times, and takes no negative number of
    days."""

    options = subprocess.run(['openssl', 'x509', '-help'], text=True,
                             capture_output=True, timeout=60)

    if '-not_after' in options.stderr + options.stdout:
        return ('-not_before', '20260101000000Z',
                '-not_after', '20260102000000Z')

    return ('-days', '-1')


def _sign(directory, name, ca, extension, validity=('-days', '30')):
    (directory / f'{name}.ext').write_text(extension + '\n')

    openssl(directory, 'req', '-newkey', 'ec', '-pkeyopt',
            'ec_paramgen_curve:P-256', '-nodes', '-keyout', f'{name}.key',
            '-out', f'{name}.csr', '-subj', f'/CN={name}')
    openssl(directory, 'x509', '-req', '-in', f'{name}.csr', '-CA',
            f'{ca}.crt', '-CAkey', f'{ca}.key', '-CAcreateserial', '-out',
            f'{name}.crt', *validity, '-extfile', f'{name}.ext')
