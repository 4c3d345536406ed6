// The program; everything is in the library beside it.

#include "app/commands.hh"

int main(int argc, char** argv) { return tidegate::app::run_program(argc, argv); }
