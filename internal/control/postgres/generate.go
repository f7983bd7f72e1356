package postgres

//go:generate env CGO_ENABLED=0 go tool -modfile=../../../tools/go.mod sqlc generate
