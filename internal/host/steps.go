package host

// Names of the steps of the operations, in order. A step's name is its entry
// in the journal, the key of its timing, and the place at which tests kill the
// agent.
const (
	StepCreateRecord    = "create.record"
	StepCreateAssign    = "create.assign" // of a warm clone, in place of the next six
	StepCreateTemplate  = "create.template"
	StepCreateDisk      = "create.disk"
	StepCreateNetwork   = "create.network"
	StepCreateCgroup    = "create.cgroup"
	StepCreateVMM       = "create.vmm"
	StepCreateGuest     = "create.guest"
	StepCreateConfigure = "create.configure"
	StepCreateCommit    = "create.commit"

	// A template snapshot is made by these.
	StepTemplateRecord    = "template.record"
	StepTemplateDisk      = "template.disk"
	StepTemplateNetwork   = "template.network"
	StepTemplateCgroup    = "template.cgroup"
	StepTemplateMemory    = "template.memory"
	StepTemplateVMM       = "template.vmm"
	StepTemplateGuest     = "template.guest"
	StepTemplateConfigure = "template.configure"
	StepTemplateWarm      = "template.warm"
	StepTemplateSeal      = "template.seal"
	StepTemplateState     = "template.state"
	StepTemplatePublish   = "template.publish"

	// A warm clone is made by these, in its own directory.
	StepPoolRecord  = "pool.record"
	StepPoolDisk    = "pool.disk"
	StepPoolNetwork = "pool.network"
	StepPoolCgroup  = "pool.cgroup"
	StepPoolVMM     = "pool.vmm"
	StepPoolGuest   = "pool.guest"
	StepPoolWarm    = "pool.warm"
	StepPoolReady   = "pool.ready"

	StepSnapshotPrepare = "snapshot.prepare"
	StepSnapshotAhead   = "snapshot.ahead"
	StepSnapshotFreeze  = "snapshot.freeze"
	StepSnapshotStop    = "snapshot.stop"
	StepSnapshotState   = "snapshot.state"
	StepSnapshotMemory  = "snapshot.memory"
	StepSnapshotDisk    = "snapshot.disk"
	StepSnapshotCont    = "snapshot.cont"
	StepSnapshotSeal    = "snapshot.seal"
	StepSnapshotCommit  = "snapshot.commit"

	StepPauseGate    = "pause.gate"
	StepPauseQuiesce = "pause.quiesce"
	StepPauseStop    = "pause.stop"
	StepPauseState   = "pause.state"
	StepPauseMemory  = "pause.memory"
	StepPauseSync    = "pause.sync"
	StepPauseCommit  = "pause.commit"
	StepPauseFree    = "pause.free"

	StepResumeCheck     = "resume.check"
	StepResumeDisk      = "resume.disk"
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
			StepCreateRecord, StepCreateTemplate, StepCreateDisk, StepCreateNetwork, StepCreateCgroup,
			StepCreateVMM, StepCreateGuest, StepCreateConfigure, StepCreateCommit,
		},
		"template": {
			StepTemplateRecord, StepTemplateDisk, StepTemplateNetwork, StepTemplateCgroup, StepTemplateMemory,
			StepTemplateVMM, StepTemplateGuest, StepTemplateConfigure, StepTemplateWarm,
			StepTemplateSeal, StepTemplateState, StepTemplatePublish,
		},
		"pool": {
			StepPoolRecord, StepPoolDisk, StepPoolNetwork, StepPoolCgroup,
			StepPoolVMM, StepPoolGuest, StepPoolWarm, StepPoolReady,
		},
		"assign": {StepCreateAssign, StepCreateConfigure, StepCreateCommit},
		opSnapshot: {
			StepSnapshotPrepare, StepSnapshotAhead, StepSnapshotFreeze, StepSnapshotStop, StepSnapshotState,
			StepSnapshotMemory, StepSnapshotDisk, StepSnapshotCont, StepSnapshotSeal, StepSnapshotCommit,
		},
		opPause: {
			StepPauseGate, StepPauseQuiesce, StepPauseStop, StepPauseState,
			StepPauseMemory, StepPauseSync, StepPauseCommit, StepPauseFree,
		},
		opResume: {
			StepResumeCheck, StepResumeDisk, StepResumeNetwork, StepResumeCgroup, StepResumeVMM,
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

	opSnapshot = "snapshot"
	opTimeouts = "timeouts" // one write of the journal, without steps
	opRenew    = "renew"    // of a guest that was silent; without steps
)
