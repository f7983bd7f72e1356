package host

// Names of the steps of the operations, in order. A step's name is its entry
// in the journal, the key of its timing, and the place at which tests kill the
// agent.
const (
	StepCreateRecord    = "create.record"
	StepCreateTemplate  = "create.template"
	StepCreateDisk      = "create.disk"
	StepCreateNetwork   = "create.network"
	StepCreateCgroup    = "create.cgroup"
	StepCreateVMM       = "create.vmm"
	StepCreateGuest     = "create.guest"
	StepCreateConfigure = "create.configure"
	StepCreateCommit    = "create.commit"

	// A template snapshot is made by these, followed by those of a pause.
	StepTemplateRecord    = "template.record"
	StepTemplateDisk      = "template.disk"
	StepTemplateNetwork   = "template.network"
	StepTemplateCgroup    = "template.cgroup"
	StepTemplateMemory    = "template.memory"
	StepTemplateVMM       = "template.vmm"
	StepTemplateGuest     = "template.guest"
	StepTemplateConfigure = "template.configure"
	StepTemplateWarm      = "template.warm"

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
			StepCreateRecord, StepCreateTemplate, StepCreateDisk, StepCreateNetwork, StepCreateCgroup,
			StepCreateVMM, StepCreateGuest, StepCreateConfigure, StepCreateCommit,
		},
		"template": {
			StepTemplateRecord, StepTemplateDisk, StepTemplateNetwork, StepTemplateCgroup, StepTemplateMemory,
			StepTemplateVMM, StepTemplateGuest, StepTemplateConfigure, StepTemplateWarm,
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
