// Package bench measures a running Wrenn the way its users meet it: over the
// REST API, one call after another and many at once. Beside that it boots the
// same guest by a bare QEMU, so that a number can be compared with what the
// machine costs without the product.
//
// It owns the measuring, the statistics and the report, as a table and as data;
// the wrenn bench command calls it, and tools/benchplot draws the report. It destroys every sandbox and
// snapshot that it made, and never touches another one, nor the server's
// settings.
//
// The numbers of a run hold for its machine, its load and its day. A run
// therefore records those with every raw sample, and the bare boots lie
// between the creates that they are compared with. What could not be measured
// is named in the report, and a create that failed fails the run.
package bench
