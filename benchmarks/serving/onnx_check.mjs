// Asks an ONNX policy: node onnx_check.mjs (onnxruntime-node|onnxruntime-web) FOLDER.
// FOLDER has policy.onnx and cases.json; prints one JSON line.
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { performance } from 'node:perf_hooks';

const [library, folder] = process.argv.slice(2);
const require = createRequire(`${process.cwd()}/`);
const ort = require(library);
const { shape, observations, actions } = JSON.parse(
  readFileSync(`${folder}/cases.json`, 'utf8'));
if (ort.env.wasm) ort.env.wasm.numThreads = 1;
const session = await ort.InferenceSession.create(
  new Uint8Array(readFileSync(`${folder}/policy.onnx`)));

let wrong = 0;
const start = performance.now();
for (let i = 0; i < observations.length; i++) {
  const tensor = new ort.Tensor('float32', Float32Array.from(observations[i]), [1, ...shape]);
  const outputs = await session.run({ observation: tensor });
  if (Number(outputs.action.data[0]) !== actions[i]) wrong++;
}
const seconds = (performance.now() - start) / 1000;
console.log(JSON.stringify({
  requests: observations.length, wrong, seconds: Number(seconds.toFixed(3)) }));
process.exit(0);
