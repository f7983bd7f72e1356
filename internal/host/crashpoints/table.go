package crashpoints

// An operation is one row group of the document.
type operation struct {
	key   string // in host.Steps
	title string
	test  string // that ends the agent at each step; the step's name follows
	// rows say what the next agent does, by ranges of steps: each holds for its
	// step and the following ones, up to the next row.
	rows []row
}

type row struct{ from, recovery string }

const (
	killed  = "TestCoreKilledAtEveryStep/"
	refills = "TestCoreRefill"
)

const rollBack = "Ends the sandbox as stopped with reason boot_failed and frees its VM, network, control group and files."

// operations are all operations, in the order of a sandbox's life.
var operations = []operation{
	{"template", "Build a template snapshot", killed + "template_build", []row{
		{"template.record", "Removes the half-made machine with its process, network and control group. The sandbox that waited for it ends as boot_failed; the next create builds again."},
	}},
	{"pool", "Make a warm clone", refills, []row{
		{"pool.record", "Ends the clone and frees all it has. The pool fills up again."},
	}},
	{"create", "Create a sandbox", killed + "create", []row{{"create.record", rollBack}}},
	{"assign", "Create a sandbox from the pool", killed + "create_from_the_pool", []row{
		{"create.assign", rollBack},
	}},
	{"pause", "Pause", killed + "pause", []row{
		{"pause.gate", "Takes over the VM, starts its CPUs if they stand still, configures the guest again, and removes the half-written pause: the sandbox runs."},
		{"pause.free", "Ends the VM, which the durable pause has replaced, and frees its network and control group: the sandbox is paused."},
	}},
	{"resume", "Resume", killed + "resume", []row{
		{"resume.check", "Ends the VM, if there is one, and frees its network and control group: the sandbox is paused as before."},
		{"resume.cont", "Takes over the VM and configures the guest: the sandbox runs. If the VM is gone and the disk of the pause was not written to, the sandbox is paused as before."},
	}},
	{"snapshot", "Take a snapshot", killed + "snapshot", []row{
		{"snapshot.prepare", "Removes the half-written snapshot. A sandbox that ran is taken over, its CPUs start, and its processes continue; a paused one stays as it is."},
	}},
	{"destroy", "Destroy", killed + "destroy", []row{
		{"destroy.vm", "Frees the rest. The sandbox is stopped, and a repeated destroy removes its record."},
	}},
}
