// Package traffic connects the world with programs that listen on ports of sandboxes:
// it is the edge that turns a request to "3000-ID.DOMAIN" into one to port 3000 of the
// sandbox ID.
//
// The process that wires the control plane puts its [Handler] before the REST API, on
// the same listener. The package reads the row of the sandbox for its token, and opens
// connections with control's DialPort, which resumes a paused sandbox with auto_resume,
// unless the caller is a stranger.
// It never changes a sandbox, and it knows neither hosts nor the database.
//
// # How a request finds its port
//
// The first match wins (route.go):
//
//	Host: PORT-ID.DOMAIN                          for browsers: each port has an origin of its own
//	E2b-Sandbox-Id and E2b-Sandbox-Port           the headers of E2B's clients
//	/v1/sandboxes/ID/ports/PORT/PATH              for programs with an API key
//
// All others are requests to the REST API.
//
// # How a request passes
//
//	route ─► row ─► credentials ─► a place for the kind of caller ─► DialPort ─► HTTP
//	                                                                         └─► raw bytes (CONNECT, Upgrade: tcp)
//
// Each request has a connection to the guest of its own, so that no idle connection
// delays a pause, and no program sees a request that was sent to its predecessor.
//
// Port 49983 is the guest's public server, which has a token of its own. Everyone reaches
// it over HTTP while the sandbox runs, and the holder of that token at any time and with
// raw connections (caller.go). Preflight requests to it are answered here (envd.go).
//
// # Guarantees
//
//  1. A program gets neither an API key nor a traffic token (TestCredentialsStayHere).
//  2. Bytes of a request's body reach the program as they arrive, those of an answer
//     the client (TestBytesAreNotHeldBack).
//  3. An answer that breaks off, because the sandbox was paused or ended, is aborted
//     and never ends cleanly (TestBrokenAnswerIsAborted).
//  4. A hostile program costs bounded memory (TestHostileAnswers).
//  5. Who has no credentials reaches no private port, gets no raw connection to port
//     49983, and takes no place of the holder of a token (TestPreflightOpensNoConnection,
//     TestStrangersSpeakHTTPOnly, TestStrangersKeepNobodyOut).
//  6. On the origin of the API no document of a sandbox has that origin, sets a
//     cookie, or changes the origin's policies (TestSharedOriginIsProtected).
//
// # Failures
//
// 502 tells that the program could not be reached. Clients look for the words "was not
// found" and "port is not open" in the message, so these are part of the contract. The
// body has the form of E2B's proxy, with the error of our API beside it (answer.go).
package traffic
