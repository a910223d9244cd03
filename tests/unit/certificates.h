/* SPDX-License-Identifier: Apache-2.0 */
/* A CA and what it has signed, made for a test. */
#ifndef TESTS_CERTIFICATES_H
#define TESTS_CERTIFICATES_H

enum certificate_use { FOR_SERVER, FOR_CLIENT };

/* Makes ca-cert.pem in `dir` and, signed by it, WHAT-cert.pem and WHAT-key.pem for a server named
 * localhost and 127.0.0.1 ("server") and for a client ("client"), which is meant for
 * `client_use`. */
void certificates_make(const char *dir, enum certificate_use client_use);
/* Removes the files that certificates_make() makes, if they are there. */
void certificates_remove(const char *dir);

#endif
