package errorcodes

// servers are the codes of the control plane itself.
var servers = []Entry{
	{"canceled", s(499), "The caller went away before the answer.", "Nothing: the caller is gone."},
	{"database_error", s(500), "The database refused a valid statement.", "The server's log has the cause under the request id."},
	{"database_unavailable", s(503), "The database cannot be reached, or takes no writes.", "Try again; see that PostgreSQL runs and has disk space."},
	{"first_pass_pending", s(503), "The server has just started and is comparing the database with its hosts.", "Try again in a moment."},
	{"illegal_move", s(500), "The server tried a change of state that is not allowed.", "Report it, with the request id."},
	{"internal", s(500, 502), "An internal error.", "Report it with the request id and the server's log."},
	{"interrupted", s(503), "The operation was interrupted.", "Try again."},
	{"output_budget_exhausted", s(503), "Commands with collected output have reached their memory limit.", "Try again, or stream the output."},
	{"timeout", s(504), "The operation took too long.", "Read the sandbox again, then decide."},
	{"unauthenticated", s(401, 502), "The token between server, agent and guest is missing or wrong.", "Give agent and server the same token file."},
	{"uploads_unavailable", s(500), "The server cannot store uploads for builds.", "Look for a full disk, and at the owner of the directory of uploads."},
}
