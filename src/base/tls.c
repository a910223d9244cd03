/* SPDX-License-Identifier: Apache-2.0 */
#include "base/tls.h"

#include "base/error.h"
#include "base/util.h"

#include <arpa/inet.h>
#include <dlfcn.h>
#include <gnutls/gnutls.h>
#include <gnutls/x509.h>
#include <stdio.h>
#include <string.h>

/* The library of the header's ABI (GnuTLS 3.6.x and 3.7.x, and later ones that keep it). */
#define LIBRARY "libgnutls.so.30"
#define PRIORITY "NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2"

#define FUNCTIONS(X)                                                                               \
	X(gnutls_alert_get)                                                                        \
	X(gnutls_alert_get_name)                                                                   \
	X(gnutls_alert_send_appropriate)                                                           \
	X(gnutls_bye)                                                                              \
	X(gnutls_certificate_allocate_credentials)                                                 \
	X(gnutls_certificate_free_credentials)                                                     \
	X(gnutls_certificate_server_set_request)                                                   \
	X(gnutls_certificate_set_x509_key_file)                                                    \
	X(gnutls_certificate_set_x509_trust_file)                                                  \
	X(gnutls_certificate_verification_status_print)                                            \
	X(gnutls_credentials_set)                                                                  \
	X(gnutls_deinit)                                                                           \
	X(gnutls_error_is_fatal)                                                                   \
	X(gnutls_free)                                                                             \
	X(gnutls_handshake)                                                                        \
	X(gnutls_init)                                                                             \
	X(gnutls_priority_set_direct)                                                              \
	X(gnutls_record_get_direction)                                                             \
	X(gnutls_record_recv)                                                                      \
	X(gnutls_record_send)                                                                      \
	X(gnutls_server_name_set)                                                                  \
	X(gnutls_session_get_verify_cert_status)                                                   \
	X(gnutls_session_set_verify_cert2)                                                         \
	X(gnutls_strerror)                                                                         \
	X(gnutls_transport_set_int2)

struct gnutls {
	void *handle;
/* A member's name cannot be in parentheses. NOLINTNEXTLINE(bugprone-macro-parentheses) */
#define MEMBER(name) __typeof__(&(name)) name;
	/* gnutls_free is a variable that holds a function. */
	FUNCTIONS(MEMBER)
#undef MEMBER
};

struct tls_identity {
	struct gnutls lib;
	enum tls_role role;
	gnutls_certificate_credentials_t credentials;
};

struct tls_session {
	const struct tls_identity *identity;
	gnutls_session_t session;
	gnutls_typed_vdata_st expected[2]; /* GnuTLS keeps the address */
	char *host;
	char reason[256];
};

/* ---- who we are --------------------------------------------------------------------------------
 */

static int load_library(struct gnutls *lib, struct gw_error *err)
{
	lib->handle = dlopen(LIBRARY, RTLD_NOW | RTLD_LOCAL);
	if (!lib->handle)
		return error_set(err, -ENOSYS, "TLS: %s", dlerror());
#define LOAD(name)                                                                                 \
	lib->name = (__typeof__(lib->name))dlsym(lib->handle, #name);                              \
	if (!lib->name)                                                                            \
		return error_set(err, -ENOSYS, "TLS: %s has no %s", LIBRARY, #name);
	FUNCTIONS(LOAD)
#undef LOAD
	return 0;
}

static int tls_error(const struct gnutls *lib, struct gw_error *err, int code, const char *what)
{
	return error_set(err, code == GNUTLS_E_MEMORY_ERROR ? -ENOMEM : -EINVAL, "TLS: %s: %s",
	                 what, lib->gnutls_strerror(code));
}

/* GnuTLS does not say which of the files it cannot read. */
static int find_file(const char *dir, const char *name, char **out, struct gw_error *err)
{
	if (asprintf(out, "%s/%s", dir, name) < 0) {
		*out = NULL;
		return error_set(err, -ENOMEM, "TLS: out of memory");
	}
	return access(*out, R_OK) < 0 ? error_set_sys(err, -errno, "TLS: %s", *out) : 0;
}

static int load_files(struct tls_identity *identity, const char *dir, struct gw_error *err)
{
	static const struct {
		const char *cert, *key;
	} names[] = {
		[TLS_SERVER] = { "server-cert.pem", "server-key.pem" },
		[TLS_CLIENT] = { "client-cert.pem", "client-key.pem" },
	};
	const struct gnutls *lib = &identity->lib;
	autofree char *ca = NULL, *cert = NULL, *key = NULL;
	int r = find_file(dir, "ca-cert.pem", &ca, err);

	if (!r)
		r = find_file(dir, names[identity->role].cert, &cert, err);
	if (!r)
		r = find_file(dir, names[identity->role].key, &key, err);
	if (r < 0)
		return r;
	r = lib->gnutls_certificate_allocate_credentials(&identity->credentials);
	if (r < 0)
		return tls_error(lib, err, r, dir);
	r = lib->gnutls_certificate_set_x509_trust_file(identity->credentials, ca,
	                                                GNUTLS_X509_FMT_PEM);
	if (r <= 0)
		return r < 0 ? tls_error(lib, err, r, ca)
		             : error_set(err, -EINVAL, "TLS: %s: no certificate in it", ca);
	r = lib->gnutls_certificate_set_x509_key_file(identity->credentials, cert, key,
	                                              GNUTLS_X509_FMT_PEM);
	return r < 0 ? tls_error(lib, err, r, cert) : 0;
}

int tls_identity_load(const char *dir, enum tls_role role, struct tls_identity **out,
                      struct gw_error *err)
{
	struct tls_identity *identity = calloc(1, sizeof(*identity));
	int r;

	if (!identity)
		return error_set(err, -ENOMEM, "TLS: out of memory");
	identity->role = role;
	r = load_library(&identity->lib, err);
	if (!r)
		r = load_files(identity, dir, err);
	if (r < 0) {
		tls_identity_free(identity);
		return r;
	}
	*out = identity;
	return 0;
}

void tls_identity_free(struct tls_identity *identity)
{
	if (!identity)
		return;
	if (identity->credentials)
		identity->lib.gnutls_certificate_free_credentials(identity->credentials);
	if (identity->lib.handle)
		dlclose(identity->lib.handle);
	free(identity);
}

/* ---- a session ---------------------------------------------------------------------------------
 */

/* RFC 5280, 4.2.1.12: what the peer's certificate has to be meant for. */
static void expect_peer(struct tls_session *s)
{
	const bool server = s->identity->role == TLS_SERVER;
	const char *purpose = server ? GNUTLS_KP_TLS_WWW_CLIENT : GNUTLS_KP_TLS_WWW_SERVER;
	unsigned count = 0;

	s->expected[count].type = GNUTLS_DT_KEY_PURPOSE_OID;
	s->expected[count++].data = (unsigned char *)(uintptr_t)purpose;
	if (s->host) {
		s->expected[count].type = GNUTLS_DT_DNS_HOSTNAME;
		s->expected[count++].data = (unsigned char *)s->host;
	}
	s->identity->lib.gnutls_session_set_verify_cert2(s->session, s->expected, count, 0);
}

/* RFC 6066, 3: a server's name is never an address. */
static bool is_address(const char *host)
{
	struct in6_addr any;

	return inet_pton(AF_INET, host, &any) == 1 || inet_pton(AF_INET6, host, &any) == 1;
}

static int start(struct tls_session *s, int fd)
{
	const struct gnutls *lib = &s->identity->lib;
	const bool server = s->identity->role == TLS_SERVER;
	int r = lib->gnutls_init(&s->session, (server ? GNUTLS_SERVER : GNUTLS_CLIENT) |
	                                              GNUTLS_NONBLOCK | GNUTLS_NO_SIGNAL);

	if (r < 0) {
		s->session = NULL;
		return r;
	}
	r = lib->gnutls_priority_set_direct(s->session, PRIORITY, NULL);
	if (r >= 0)
		r = lib->gnutls_credentials_set(s->session, GNUTLS_CRD_CERTIFICATE,
		                                s->identity->credentials);
	if (r < 0)
		return r;
	if (server)
		lib->gnutls_certificate_server_set_request(s->session, GNUTLS_CERT_REQUIRE);
	else if (s->host && !is_address(s->host))
		lib->gnutls_server_name_set(s->session, GNUTLS_NAME_DNS, s->host, strlen(s->host));
	expect_peer(s);
	lib->gnutls_transport_set_int2(s->session, fd, fd);
	return 0;
}

int tls_session_create(const struct tls_identity *identity, int fd, const char *host,
                       struct tls_session **out, struct gw_error *err)
{
	struct tls_session *s = calloc(1, sizeof(*s));
	int r;

	if (!s)
		return error_set(err, -ENOMEM, "TLS: out of memory");
	s->identity = identity;
	s->host = host ? strdup(host) : NULL;
	r = host && !s->host ? GNUTLS_E_MEMORY_ERROR : start(s, fd);
	if (r < 0) {
		tls_session_free(s);
		return tls_error(&identity->lib, err, r, "session");
	}
	*out = s;
	return 0;
}

void tls_session_free(struct tls_session *s)
{
	if (!s)
		return;
	if (s->session) {
		s->identity->lib.gnutls_bye(s->session, GNUTLS_SHUT_WR);
		s->identity->lib.gnutls_deinit(s->session);
	}
	free(s->host);
	free(s);
}

/* ---- its bytes
 * ----------------------------------------------------------------------------------- */

/* Why a certificate was not taken is told apart from what else may go wrong. */
static void note_reason(struct tls_session *s, int code)
{
	const struct gnutls *lib = &s->identity->lib;
	gnutls_datum_t text = { 0 };

	if (code == GNUTLS_E_CERTIFICATE_VERIFICATION_ERROR &&
	    lib->gnutls_certificate_verification_status_print(
	            lib->gnutls_session_get_verify_cert_status(s->session), GNUTLS_CRT_X509, &text,
	            0) >= 0) {
		snprintf(s->reason, sizeof(s->reason), "%s", (char *)text.data);
		(*lib->gnutls_free)(text.data);
	} else if (code == GNUTLS_E_FATAL_ALERT_RECEIVED) {
		const char *alert = lib->gnutls_alert_get_name(lib->gnutls_alert_get(s->session));

		snprintf(s->reason, sizeof(s->reason), "the peer says: %s", alert ? alert : "?");
	} else {
		snprintf(s->reason, sizeof(s->reason), "%s", lib->gnutls_strerror(code));
	}
}

/* What GnuTLS returned, as an errno. */
static int to_errno(struct tls_session *s, int code)
{
	switch (code) {
	case GNUTLS_E_AGAIN:
	case GNUTLS_E_INTERRUPTED:
		return -EAGAIN;
	default:
		note_reason(s, code);
		return -EPROTO;
	}
}

static bool is_warning(const struct tls_session *s, ssize_t code)
{
	return code < 0 && code != GNUTLS_E_AGAIN && code != GNUTLS_E_REHANDSHAKE &&
	       !s->identity->lib.gnutls_error_is_fatal((int)code);
}

int tls_handshake(struct tls_session *s)
{
	int r;

	do
		r = s->identity->lib.gnutls_handshake(s->session);
	while (is_warning(s, r));
	if (r < 0 && r != GNUTLS_E_AGAIN && r != GNUTLS_E_INTERRUPTED)
		s->identity->lib.gnutls_alert_send_appropriate(s->session, r);
	return r < 0 ? to_errno(s, r) : 0;
}

/* Renegotiation (TLS 1.2) is not granted. */
ssize_t tls_read(struct tls_session *s, void *buf, size_t len)
{
	ssize_t n;

	do
		n = s->identity->lib.gnutls_record_recv(s->session, buf, len);
	while (is_warning(s, n));
	if (n == GNUTLS_E_PREMATURE_TERMINATION)
		return 0;
	return n < 0 ? to_errno(s, (int)n) : n;
}

ssize_t tls_write(struct tls_session *s, const void *buf, size_t len)
{
	ssize_t n = s->identity->lib.gnutls_record_send(s->session, buf, len);

	return n < 0 ? to_errno(s, (int)n) : n;
}

bool tls_wants_write(struct tls_session *s)
{
	return s->identity->lib.gnutls_record_get_direction(s->session);
}

const char *tls_reason(struct tls_session *s)
{
	return s->reason;
}
