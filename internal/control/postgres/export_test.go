package postgres

import "io/fs"

// FaultOf classifies an error of the database.
func FaultOf(err error) error { return faultOf(err) }

// Migrations are the files of the migrations.
func Migrations() fs.FS {
	files, err := fs.Sub(migrationFiles, "migrations")
	if err != nil {
		panic(err)
	}
	return files
}
