// Package types holds the Go types of the REST contract, generated from
// api/openapi.yaml by "make generate".
//
// The server writes its answers with them and package client reads them, so that
// a field is declared once. Fields are in the order of the contract, which is
// therefore the order of JSON answers. A pointer is a field that may be null, or, in a
// request, absent. Enumerations are plain strings, because a client has to
// accept the values of a newer server. Nothing here validates: package rest
// decodes requests strictly.
package types
