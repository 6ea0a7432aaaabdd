package device

// failpoint is where tests of this package kill the process.
var failpoint = func(string) {}
