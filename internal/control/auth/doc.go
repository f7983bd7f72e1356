// Package auth owns API keys: it makes them, and turns a presented key into a
// [Principal].
//
// The REST server and the other edges call [Service.Authenticate]; the command
// `wrenn key` calls the rest. It does not decide whether a key is needed nor
// which operations a principal may use, and it never logs, stores or returns a
// key, except once, to the caller that had it made.
package auth
