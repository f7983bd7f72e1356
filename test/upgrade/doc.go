// Package upgrade tests that this version takes over the data of earlier ones.
//
// testdata has a directory for each recorded version:
//
//	host/          the host agent's data directory, without large files
//	large.txt      size, time of modification and name of each file left out
//	database.sql   the database, as "pg_dump --inserts" writes it
//
// The content of the files left out (memory, disks, page differences) is not
// needed: the tests put sparse files of the same size and time in their place,
// and start no VM. "The v0.1 host" in this package's names is the data directory
// /var/lib/wrenn-v0.1/host, at which the recorded paths lie.
//
// # How a version is recorded
//
// Build the version in a worktree of its tag and start it with
// "wrenn up --data-dir /var/lib/wrenn-v0.N". Over its API make sandboxes of
// each state: running, paused, paused from a named snapshot, forked, destroyed.
// Then begin a create and a pause, and kill the server with SIGKILL while both
// are under way. Copy record.json, manifest.json, state, deleted and the
// version's other small files, and replace the machine's boot id. Start the
// database's cluster by hand and dump it.
//
// v0.1 is commit 4fe3d48.
package upgrade
