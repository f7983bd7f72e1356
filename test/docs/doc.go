// Package docs tests the documentation: README.md, docs/ and deploy/.
//
// It runs the commands of every page against one server with real sandboxes
// and compares the shown output, and it checks that every flag, error code,
// field, path, file, variable and link in a page exists. docs/README.md defines
// how a page marks commands, files and commands that no test can run.
//
// The package uses the built program and the REST contract. It imports package
// errorcodes for the table of codes and nothing else of the product.
package docs
