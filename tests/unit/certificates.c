/* SPDX-License-Identifier: Apache-2.0 */
#include "certificates.h"

#include <criterion/criterion.h>

#include <gnutls/gnutls.h>
#include <gnutls/x509.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define DAY 86400

static void put(const char *dir, const char *what, const char *part, const gnutls_datum_t *pem)
{
	char path[256];
	FILE *to;

	snprintf(path, sizeof(path), "%s/%s-%s.pem", dir, what, part);
	to = fopen(path, "w");
	cr_assert(to, "%s", path);
	cr_assert_eq(fwrite(pem->data, 1, pem->size, to), pem->size);
	fclose(to);
}

static gnutls_x509_privkey_t make_key(void)
{
	gnutls_x509_privkey_t key;

	cr_assert_eq(gnutls_x509_privkey_init(&key), 0);
	cr_assert_eq(gnutls_x509_privkey_generate(key, GNUTLS_PK_ECDSA,
	                                          GNUTLS_CURVE_TO_BITS(GNUTLS_ECC_CURVE_SECP256R1),
	                                          0),
	             0);
	return key;
}

static gnutls_x509_crt_t begin(gnutls_x509_privkey_t key, const char *name, unsigned char serial)
{
	gnutls_x509_crt_t cert;

	cr_assert_eq(gnutls_x509_crt_init(&cert), 0);
	gnutls_x509_crt_set_version(cert, 3);
	gnutls_x509_crt_set_key(cert, key);
	gnutls_x509_crt_set_serial(cert, &serial, 1);
	gnutls_x509_crt_set_activation_time(cert, time(NULL) - DAY);
	gnutls_x509_crt_set_expiration_time(cert, time(NULL) + DAY);
	gnutls_x509_crt_set_dn_by_oid(cert, GNUTLS_OID_X520_COMMON_NAME, 0, name,
	                              (unsigned)strlen(name));
	return cert;
}

static void finish(gnutls_x509_crt_t cert, gnutls_x509_crt_t by, gnutls_x509_privkey_t by_key)
{
	cr_assert_eq(gnutls_x509_crt_sign2(cert, by, by_key, GNUTLS_DIG_SHA256, 0), 0);
}

static void put_cert(const char *dir, const char *what, gnutls_x509_crt_t cert)
{
	gnutls_datum_t pem;

	cr_assert_eq(gnutls_x509_crt_export2(cert, GNUTLS_X509_FMT_PEM, &pem), 0);
	put(dir, what, "cert", &pem);
	gnutls_free(pem.data);
}

static void make_one(const char *dir, const char *what, enum certificate_use use,
                     gnutls_x509_crt_t ca, gnutls_x509_privkey_t ca_key)
{
	const unsigned char address[] = { 127, 0, 0, 1 };
	gnutls_x509_privkey_t key = make_key();
	gnutls_x509_crt_t cert = begin(key, what, 2);
	gnutls_datum_t pem;

	gnutls_x509_crt_set_key_usage(cert, GNUTLS_KEY_DIGITAL_SIGNATURE);
	gnutls_x509_crt_set_key_purpose_oid(
	        cert, use == FOR_SERVER ? GNUTLS_KP_TLS_WWW_SERVER : GNUTLS_KP_TLS_WWW_CLIENT, 0);
	gnutls_x509_crt_set_subject_alt_name(cert, GNUTLS_SAN_DNSNAME, "localhost", 9,
	                                     GNUTLS_FSAN_SET);
	gnutls_x509_crt_set_subject_alt_name(cert, GNUTLS_SAN_IPADDRESS, address, sizeof(address),
	                                     GNUTLS_FSAN_APPEND);
	finish(cert, ca, ca_key);
	put_cert(dir, what, cert);
	cr_assert_eq(gnutls_x509_privkey_export2(key, GNUTLS_X509_FMT_PEM, &pem), 0);
	put(dir, what, "key", &pem);
	gnutls_free(pem.data);
	gnutls_x509_crt_deinit(cert);
	gnutls_x509_privkey_deinit(key);
}

void certificates_make(const char *dir, enum certificate_use client_use)
{
	gnutls_x509_privkey_t key = make_key();
	gnutls_x509_crt_t ca = begin(key, "test CA", 1);

	gnutls_x509_crt_set_ca_status(ca, 1);
	gnutls_x509_crt_set_key_usage(ca, GNUTLS_KEY_KEY_CERT_SIGN);
	finish(ca, ca, key);
	put_cert(dir, "ca", ca);
	make_one(dir, "server", FOR_SERVER, ca, key);
	make_one(dir, "client", client_use, ca, key);
	gnutls_x509_crt_deinit(ca);
	gnutls_x509_privkey_deinit(key);
}

void certificates_remove(const char *dir)
{
	static const char *const files[] = { "ca-cert", "server-cert", "server-key", "client-cert",
		                             "client-key" };
	char path[256];

	for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
		snprintf(path, sizeof(path), "%s/%s.pem", dir, files[i]);
		unlink(path);
	}
}
