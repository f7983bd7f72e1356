package host

// Names of the steps of the operations, in order. A step's name is its entry
// in the journal, the key of its timing, and the place at which tests kill the
// agent.
const (
	StepCreateRecord    = "create.record"
	StepCreateDisk      = "create.disk"
	StepCreateNetwork   = "create.network"
	StepCreateCgroup    = "create.cgroup"
	StepCreateMemory    = "create.memory"
	StepCreateVMM       = "create.vmm"
	StepCreateGuest     = "create.guest"
	StepCreateConfigure = "create.configure"
	StepCreateCommit    = "create.commit"

	StepPauseGate    = "pause.gate"
	StepPauseQuiesce = "pause.quiesce"
	StepPauseStop    = "pause.stop"
	StepPauseState   = "pause.state"
	StepPauseMemory  = "pause.memory"
	StepPauseSync    = "pause.sync"
	StepPauseCommit  = "pause.commit"
	StepPauseFree    = "pause.free"

	StepResumeCheck     = "resume.check"
	StepResumeNetwork   = "resume.network"
	StepResumeCgroup    = "resume.cgroup"
	StepResumeVMM       = "resume.vmm"
	StepResumeCont      = "resume.cont"
	StepResumeConfigure = "resume.configure"
	StepResumeCommit    = "resume.commit"

	StepDestroyVM      = "destroy.vm"
	StepDestroyNetwork = "destroy.network"
	StepDestroyCgroup  = "destroy.cgroup"
	StepDestroyFiles   = "destroy.files"
	StepDestroyCommit  = "destroy.commit"
)

// Steps returns the steps of each operation, in order, for tests that stop at
// every one of them.
func Steps() map[string][]string {
	return map[string][]string{
		opCreate: {
			StepCreateRecord, StepCreateDisk, StepCreateNetwork, StepCreateCgroup, StepCreateMemory,
			StepCreateVMM, StepCreateGuest, StepCreateConfigure, StepCreateCommit,
		},
		opPause: {
			StepPauseGate, StepPauseQuiesce, StepPauseStop, StepPauseState,
			StepPauseMemory, StepPauseSync, StepPauseCommit, StepPauseFree,
		},
		opResume: {
			StepResumeCheck, StepResumeNetwork, StepResumeCgroup, StepResumeVMM,
			StepResumeCont, StepResumeConfigure, StepResumeCommit,
		},
		opDestroy: {StepDestroyVM, StepDestroyNetwork, StepDestroyCgroup, StepDestroyFiles, StepDestroyCommit},
	}
}

// The operations, as the journal names them.
const (
	opCreate  = "create"
	opPause   = "pause"
	opResume  = "resume"
	opDestroy = "destroy"
)
