package control

// AnswerKey names a request that a caller may send again: the Idempotency-Key,
// which belongs to one caller.
type AnswerKey struct {
	// Principal is the id of the caller's API key; empty on a server without.
	Principal string
	Key       string
}

// Answer is the response to a request with an AnswerKey.
type Answer struct {
	// Fingerprint is the SHA-256 of the parts that identify the request.
	Fingerprint [32]byte
	// Status is the HTTP status; zero while the request is under way.
	Status int
	Header map[string]string
	// Body is nil when the answer was too large to be kept.
	Body []byte
	// Abandoned: the server that worked on the request stopped before it had
	// an answer. Whether the request took effect is not known.
	Abandoned bool
}
