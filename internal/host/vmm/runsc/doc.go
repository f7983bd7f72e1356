// Package runsc keeps builds of runsc, the program that runs gVisor sandboxes, so
// that a sandbox can be resumed after an update of runsc or of Wrenn.
//
// It owns one directory of the host agent:
//
//	<id>/runsc         the program
//	<id>/gvisor-bin/   the programs that a release brings along, if it has any
//	<id>/agent.erofs   the image of the guest agent
//	<id>/build.json    a [Build]
//
// A saved sandbox depends on the program and on the image of the guest agent, which
// it has mounted. A build is therefore a pair of both. The gVisor driver keeps the
// current pair at each start and runs sandboxes from kept builds only; the host
// removes a build once nothing was saved under it. The doctor command reads the
// directory too.
//
// The current program is the operator's own, or the newest one that `make runsc` has
// put into the image store. Neither place is changed here.
package runsc
