package journal

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
	StepTemplateVMM       = "template.vmm"
	StepTemplateGuest     = "template.guest"
	StepTemplateConfigure = "template.configure"
	StepTemplateWarm      = "template.warm"
	StepTemplateSeal      = "template.seal"
	StepTemplateSave      = "template.save"
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
	StepSnapshotSave    = "snapshot.save"
	StepSnapshotDisk    = "snapshot.disk"
	StepSnapshotCont    = "snapshot.cont"
	StepSnapshotSeal    = "snapshot.seal"
	StepSnapshotCommit  = "snapshot.commit"

	StepPauseGate    = "pause.gate"
	StepPauseQuiesce = "pause.quiesce"
	StepPauseStop    = "pause.stop"
	StepPauseSave    = "pause.save"
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

	StepEgressApply = "egress.apply"

	StepDestroyVM      = "destroy.vm"
	StepDestroyCgroup  = "destroy.cgroup"
	StepDestroyNetwork = "destroy.network"
	StepDestroyFiles   = "destroy.files"
	StepDestroyCommit  = "destroy.commit"
)
