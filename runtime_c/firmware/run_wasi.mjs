// SPDX-License-Identifier: Apache-2.0
// Runs a program for WASI in Node: node run_wasi.mjs program.wasm. Its files are those of the folder it is started in. It ends
// with the program's code; a trap is 99, and 97 where the engine's own stack is full.
import { readFileSync } from "node:fs";
import { WASI } from "node:wasi";

const wasi = new WASI({ version: "preview1", args: ["program"], preopens: { ".": "." }, returnOnExit: true });
const { instance } = await WebAssembly.instantiate(readFileSync(process.argv[2]), wasi.getImportObject());

try {
    process.exitCode = wasi.start(instance);
} catch (error) {
    if (error instanceof RangeError) {
        console.log(`STACK OVERFLOW ${error.message}`);
        process.exitCode = 97;
    } else if (error instanceof WebAssembly.RuntimeError) {
        console.log(`FAULT ${error.message}`);
        process.exitCode = 99;
    } else {
        throw error;
    }
}
