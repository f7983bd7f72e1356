// Package certs reads TLS certificates, keys and authorities from files and
// follows their changes, so that a renewed certificate is used without a
// restart. For servers without a certificate it keeps an authority of their own
// ([OpenAuthority]), from which an [Issuer] gives each handshake a certificate.
//
// cmd/wrenn opens the files and hands [ServerConfig] to the REST API and the
// host agent, and [ClientConfig] to the client of host agents. The package
// writes no file but those of its authorities.
//
// # Guarantees
//
//  1. A handshake after a file has changed uses the new content
//     (TestRenewedCertificateIsServed).
//  2. Content that cannot be used, such as a certificate whose key has not
//     been written yet, leaves the last good one in use
//     (TestBrokenRenewalKeepsTheOldCertificate).
//  3. With authorities for clients, a client without a certificate of theirs
//     completes no handshake (TestClientNeedsACertificate).
//  4. Servers that open one directory at the same time have one authority
//     (TestAuthorityIsCreatedOnce), and its certificates are accepted for its domain
//     only (TestAuthorityIsConstrained).
//  5. An issued certificate is replaced before it ends (TestIssuedCertificateIsRenewed).
package certs
