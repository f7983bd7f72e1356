package image

// CodeInterpreter is the recipe of the template of E2B's code interpreter.
func CodeInterpreter() Recipe {
	return Recipe{Name: "code-interpreter-v1", Suite: Suite, Packages: basic(), Commands: basicCommands()}
}
