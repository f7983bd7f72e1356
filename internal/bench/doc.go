// Package bench measures a running Wrenn server through its REST API, with
// sequential and concurrent requests. It also boots the same guest in a bare
// QEMU, so that the cost of Wrenn can be told from the cost of the VM.
//
// It owns the measurements, the statistics and the report, as a table and as
// JSON. The wrenn bench command calls it, and tools/benchplot draws the report.
// It destroys every sandbox and snapshot that it created. It never touches
// other sandboxes or the server's settings.
//
// The results of a run are valid for one machine at one load. The report
// therefore records the machine and its load with every raw sample, and bare
// boots are interleaved with the creates that they are compared with. The
// report lists each part that could not be measured. A failed create fails the
// run.
package bench
