package journal

import "slices"

// The operations, as records name them. OpTimeouts, OpStart and OpRenew have no steps.
const (
	OpTemplate = "template" // a template build; its record names no operation
	OpPool     = "pool"
	OpCreate   = "create"
	OpAssign   = "assign" // a create that takes a warm clone; its record says "create"
	OpPause    = "pause"
	OpResume   = "resume"
	OpSnapshot = "snapshot"
	OpDestroy  = "destroy"
	OpEgress   = "egress"
	OpTimeouts = "timeouts" // one write of the record
	OpStart    = "start"    // one write of the record: the start command of a template
	OpRenew    = "renew"    // of a guest that was silent
)

// An Operation is one operation with its steps in order.
type Operation struct {
	Name  string
	Title string // for people
	Steps []Step
}

// A Step is one row of an operation's table.
type Step struct {
	Name string
	// Recovery is the action of the next agent if the agent ends at this step.
	Recovery Recovery
	// Unjournaled is true for a step that may run although the record cannot be
	// written, because an agent that reads the older record brings the sandbox
	// into the same state.
	Unjournaled bool
}

// Operations returns all operations, in the order of a sandbox's life.
func Operations() []Operation { return slices.Clone(operations) }

var operations = []Operation{
	{OpTemplate, "Build a template snapshot", steps(DiscardBuild,
		StepTemplateRecord, StepTemplateDisk, StepTemplateNetwork, StepTemplateCgroup,
		StepTemplateVMM, StepTemplateGuest, StepTemplateConfigure, StepTemplateWarm,
		StepTemplateSeal, StepTemplateSave, StepTemplatePublish)},
	{OpPool, "Make a warm clone", steps(DiscardClone,
		StepPoolRecord, StepPoolDisk, StepPoolNetwork, StepPoolCgroup,
		StepPoolVMM, StepPoolGuest, StepPoolWarm, StepPoolReady)},
	{OpCreate, "Create a sandbox", steps(RollBackCreate,
		StepCreateRecord, StepCreateTemplate, StepCreateDisk, StepCreateNetwork, StepCreateCgroup,
		StepCreateVMM, StepCreateGuest, StepCreateConfigure, StepCreateCommit)},
	{OpAssign, "Create a sandbox from the pool", steps(RollBackCreate,
		StepCreateAssign, StepCreateConfigure, StepCreateCommit)},
	{OpPause, "Pause", slices.Concat(
		steps(UndoPause, StepPauseGate, StepPauseQuiesce, StepPauseStop, StepPauseSave,
			StepPauseSync, StepPauseCommit),
		unjournaled(steps(FinishPause, StepPauseFree)))},
	{OpResume, "Resume", slices.Concat(
		steps(UndoResume, StepResumeCheck, StepResumeDisk, StepResumeNetwork, StepResumeCgroup, StepResumeVMM),
		steps(FinishResume, StepResumeCont),
		unjournaled(steps(FinishResume, StepResumeConfigure, StepResumeCommit)))},
	{OpSnapshot, "Take a snapshot", slices.Concat(
		steps(UndoSnapshot, StepSnapshotPrepare, StepSnapshotAhead, StepSnapshotFreeze, StepSnapshotStop,
			StepSnapshotSave, StepSnapshotDisk),
		unjournaled(steps(UndoSnapshot, StepSnapshotCont)),
		steps(UndoSnapshot, StepSnapshotSeal, StepSnapshotCommit))},
	// Of a sandbox that runs; the record of a paused one is written once. The record has
	// the new limits from the step on.
	{OpEgress, "Change the limits of outgoing traffic", steps(FinishEgress, StepEgressApply)},
	// A teardown may free the space that the record lacks, and the next agent
	// finds the freed resources gone.
	{OpDestroy, "Destroy", unjournaled(steps(FinishDestroy,
		StepDestroyVM, StepDestroyCgroup, StepDestroyNetwork, StepDestroyFiles, StepDestroyCommit))},
}

// steps returns one row for each name, all with the same recovery.
func steps(recovery Recovery, names ...string) []Step {
	rows := make([]Step, 0, len(names))
	for _, name := range names {
		rows = append(rows, Step{Name: name, Recovery: recovery})
	}
	return rows
}

func unjournaled(rows []Step) []Step {
	for i := range rows {
		rows[i].Unjournaled = true
	}
	return rows
}

// Steps returns the names of the steps of each operation, in order.
func Steps() map[string][]string {
	out := make(map[string][]string, len(operations))
	for _, o := range operations {
		for _, s := range o.Steps {
			out[o.Name] = append(out[o.Name], s.Name)
		}
	}
	return out
}

// MayRunUnjournaled reports whether the step called name may run although the
// record cannot be written.
func MayRunUnjournaled(name string) bool {
	row, ok := find(name)
	return ok && row.Unjournaled
}

// find returns the row of the step called name. Steps that two operations share
// have equal rows in both.
func find(name string) (Step, bool) {
	for _, o := range operations {
		for _, s := range o.Steps {
			if s.Name == name {
				return s, true
			}
		}
	}
	return Step{}, false
}
