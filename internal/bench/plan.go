package bench

import "fmt"

// The operations, by their names in reports.
const (
	opBareBoot = "bare_boot"
	opFirst    = "first_create"

	opPool        = "create_pool"
	opPoolExec    = "create_pool_to_exec"
	opRestore     = "create_restore"
	opRestoreExec = "create_restore_to_exec"

	opStaggered     = "staggered_create"
	opStaggeredExec = "staggered_to_exec"
	opBurst         = "burst_create"
	opBurstLast     = "burst_all"
	opBurstExec     = "burst_to_exec"

	opExec      = "exec"
	opExecGuest = "exec_in_guest"
	opExecAdded = "exec_added"

	opPublicExec  = "exec_e2b"
	opPublicAdded = "exec_e2b_added"
	opAttach      = "attach_first_byte"

	opPython     = "python_first"
	opPythonPool = "python_first_pool"
	opSum        = "python_sum"

	opPause  = "pause"
	opResume = "resume"
	opDelete = "delete"

	opForkWindow     = "fork_pause_window"
	opForkMemory     = "fork_window_memory"
	opForkDisk       = "fork_window_disk"
	opForkFirst      = "fork_first"
	opForkEach       = "fork_each_further"
	opSnapshot       = "snapshot_create"
	opSnapshotWindow = "snapshot_window"
	opFromSnapshot   = "create_snapshot"

	opUpload   = "upload"
	opDownload = "download"
	opPort     = "port_download"

	opLargeUpload   = "large_upload_e2b"
	opLargeDownload = "large_download_e2b"
	opLargePort     = "large_port_download"

	opStreamMemory = "streams_memory"
	opStreamGrowth = "streams_growth"

	opMemory        = "idle_memory"
	opDensityMemory = "density_memory"
)

// opDirty returns the name of op after mb MiB were written.
func opDirty(op string, mb int) string { return fmt.Sprintf("%s_%d_mb", op, mb) }

// Group names measurements that the report shows together. All measurements of
// a group have the same unit.
type Group string

// The groups, in the order of the report.
const (
	Creates   Group = "Create"
	Shapes    Group = "Create, many"
	Execs     Group = "Exec"
	Programs  Group = "Python"
	Pauses    Group = "Pause, resume"
	Copies    Group = "Fork, snapshot"
	Transfers Group = "Throughput"
	Memories  Group = "Memory"
)

var groups = []Group{Creates, Shapes, Execs, Programs, Pauses, Copies, Transfers, Memories}

// plan registers the measurements, in the order of the report.
func (r *run) plan() {
	if r.subject != gVisor {
		r.enter(Creates, Milliseconds, Measurement{Name: opBareBoot, Shape: Without, About: "bare QEMU from its start to the guest's ready line"})
	}
	r.enter(Creates, Milliseconds,
		Measurement{Name: opFirst, About: "the first create of the restored size, which makes its template if there is none"},
		Measurement{Name: opPool, About: "POST /v1/sandboxes, answered by a warm clone"},
		Measurement{Name: opPoolExec, About: "the same until true has returned"},
		Measurement{Name: opRestore, About: "POST /v1/sandboxes, answered by a restore of the template snapshot"},
		Measurement{Name: opRestoreExec, About: "the same until true has returned"})
	r.enter(Shapes, Milliseconds,
		Measurement{Name: opStaggered, Shape: Staggered, About: fmt.Sprintf("each of %d creates, one begun every %d ms", r.Burst, r.Stagger.Milliseconds())},
		Measurement{Name: opStaggeredExec, Shape: Staggered, About: "the same until true has returned"},
		Measurement{Name: opBurst, Shape: Burst, About: fmt.Sprintf("each of %d creates begun at once", r.Burst)},
		Measurement{Name: opBurstLast, Shape: Burst, About: fmt.Sprintf("until all %d were there", r.Burst)},
		Measurement{Name: opBurstExec, Shape: Burst, About: "each of another burst, until true has returned"})
	r.enter(Execs, Milliseconds,
		Measurement{Name: opExec, About: "exec of true in a sandbox that has run it"},
		Measurement{Name: opExecGuest, About: "time of /bin/true in a shell in the sandbox, mean of 50 less an empty loop"},
		Measurement{Name: opExecAdded, About: "exec less exec_in_guest, in the same sandbox"},
		Measurement{Name: opPublicExec, About: "the same command by the protocol of E2B's clients"},
		Measurement{Name: opPublicAdded, About: "exec_e2b less exec, in the same sandbox in turn"},
		Measurement{Name: opAttach, About: "request for the output of a process until its first byte"})
	r.enter(Programs, Milliseconds,
		Measurement{Name: opPython, About: "python3 -c 'print(1)', the first command of a restored sandbox"},
		Measurement{Name: opPythonPool, About: "the same in a warm clone"},
		Measurement{Name: opSum, About: "sum(range(10**7)) in Python, timed there"})
	r.enter(Pauses, Milliseconds, r.pausePlan()...)
	r.enter(Copies, Milliseconds, Measurement{Name: opForkWindow, About: "how long a fork stopped its parent, as the server says"})
	r.enter(Copies, Milliseconds, r.dirtyForkPlan()...)
	r.enter(Copies, Milliseconds,
		Measurement{Name: opForkFirst, About: "fork into one child"},
		Measurement{Name: opForkEach, About: "fork into five less fork into one, by four"},
		Measurement{Name: opSnapshot, About: "named snapshot of a running sandbox, until it is durable"},
		Measurement{Name: opSnapshotWindow, About: "how long that stopped the sandbox, as the server says"},
		Measurement{Name: opFromSnapshot, About: "POST /v1/sandboxes with that snapshot"})
	r.enter(Transfers, MiBPerSecond,
		Measurement{Name: opUpload, About: fmt.Sprintf("file of %d MiB into the sandbox", r.FileBytes>>20)},
		Measurement{Name: opDownload, About: "the same file out again"},
		Measurement{Name: opPort, About: "as many bytes from a program that listens on a port"},
		Measurement{Name: opLargeUpload, About: fmt.Sprintf("%d MiB by /files of E2B's clients, once", r.LargeBytes>>20)},
		Measurement{Name: opLargeDownload, About: "the same file out again"},
		Measurement{Name: opLargePort, About: "as many bytes from a program that listens on a port"})
	r.enter(Memories, MiB,
		Measurement{Name: opStreamMemory, About: fmt.Sprintf("Rss of the server with %d streams of output open", r.Streams)},
		Measurement{Name: opStreamGrowth, About: fmt.Sprintf("its growth in the %.0f s for which they stay open", r.StreamTime.Seconds())},
		Measurement{Name: opMemory, About: "Pss of the sandbox's processes after the first commands"},
		Measurement{Name: opDensityMemory, About: fmt.Sprintf("the same for each of %d idle sandboxes together", r.Density)})
}

func (r *run) pausePlan() []Measurement {
	rows := []Measurement{
		{Name: opPause, About: "pause of an idle sandbox"},
		{Name: opResume, About: "resume of it"},
	}
	for _, mb := range r.DirtyMB {
		rows = append(rows,
			Measurement{Name: opDirty(opPause, mb), About: fmt.Sprintf("pause with %d MiB of memory written", mb)},
			Measurement{Name: opDirty(opResume, mb), About: "resume of that"})
	}
	return append(rows, Measurement{Name: opDelete, About: "delete of a running sandbox"})
}

func (r *run) dirtyForkPlan() (rows []Measurement) {
	for _, mb := range r.DirtyMB {
		rows = append(rows,
			Measurement{Name: opDirty(opForkMemory, mb), About: fmt.Sprintf("the same with %d MiB of memory written", mb)},
			Measurement{Name: opDirty(opForkDisk, mb), About: fmt.Sprintf("the same with %d MiB of the disk written", mb)})
	}
	return rows
}
