// A program under the suites' control, ended with them.

import { spawn } from 'node:child_process';
import { EventEmitter, once } from 'node:events';
import { createInterface } from 'node:readline';
import { within } from './wait.mjs';

const GONE_WITHIN = 30_000;
const STDERR_LINES = 100;

/** Runs `command`; emits 'line' for each line of its standard output and keeps the last ones of its standard error. */
export class Program extends EventEmitter {
  lines = [];
  #name;
  #child;
  #tail = [];
  #killed = false;

  /** With `keep: false` the lines are only emitted, so that any number of them may come; `env` is added to that of this process. */
  constructor(command, args, { stdin = 'ignore', keep = true, env = {} } = {}) {
    super();
    this.#name = [command.split('/').pop(), ...args].join(' ');
    this.#child = spawn(command, args, { stdio: [stdin, 'pipe', 'pipe'], env: { ...process.env, ...env } });
    createInterface({ input: this.#child.stderr }).on('line', (line) => {
      this.#tail.push(line);
      if (this.#tail.length > STDERR_LINES) this.#tail.shift();
    });
    createInterface({ input: this.#child.stdout }).on('line', (line) => {
      if (keep) this.lines.push(line);
      this.emit('line', line);
    });
    /** Resolves to how the program ended. */
    this.gone = new Promise((resolve) => {
      this.#child.once('error', (err) => resolve(err.message));
      this.#child.once('exit', (code, signal) => resolve(signal ?? `exit code ${code}`));
    });
  }

  /** Writes a line to its standard input, which has to be a pipe. Resolves when there is room for more. */
  async say(line) {
    if (!this.#child.stdin.write(`${line}\n`)) await once(this.#child.stdin, 'drain');
  }

  /** Resolves with the first line for which `wanted` is true; rejects when the program ends before it. */
  line(ms, what, wanted = () => true) {
    const found = async () => {
      for (let i = 0; ; i += 1) {
        while (i >= this.lines.length) await once(this, 'line');
        if (wanted(this.lines[i])) return this.lines[i];
      }
    };
    const ended = this.gone.then((how) => {
      throw new Error(`${this.#name} ended (${how}) before ${what}:\n${this.log()}`);
    });
    ended.catch(() => {});
    return within(ms, what, Promise.race([found(), ended]), () => `it said ${this.lines.join(' ')}; ${this.log()}`);
  }

  log() {
    return this.#tail.join('\n');
  }

  /** Ends the program at once, as a crash would. */
  async kill() {
    this.#killed = true;
    this.#child.kill('SIGKILL');
    await this.gone;
  }

  /** Asks the program to end, and insists when it does not. */
  async close() {
    if (this.#killed) return;
    this.#child.kill('SIGTERM');
    try {
      const how = await within(GONE_WITHIN, `${this.#name} ends after SIGTERM`, this.gone, () => this.log());
      if (how !== 'exit code 0') throw new Error(`${this.#name} ended badly (${how}):\n${this.log()}`);
    } finally {
      this.#child.kill('SIGKILL');
    }
  }
}
