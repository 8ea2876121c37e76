// Submit a request and wait for its result: `npm install && npm start -- REQUEST_ID`.
import { randomUUID } from 'node:crypto';
import {
  ApplicationFailure,
  Client,
  Connection,
  WithStartWorkflowOperation,
  WorkflowFailedError,
} from '@temporalio/client';

// The part that is used here of gpt_image_runs/contracts/schemas/run-result.json.
interface RunResult {
  run_id: string;
  images: { uri: string; sha256: string; media_type: string; bytes: number; width: number; height: number }[];
  cost: { amount_usd: string | null; basis: string };
  billing: { state: string; entry_id: string; reason: string | null };
}

// The part that is used here of gpt_image_runs/contracts/schemas/submit-receipt.json.
interface SubmitReceipt {
  status: 'accepted' | 'attached' | 'conflict' | 'refused';
  message: string;
  price_ceiling_usd: string | null;
  differences: { field: string; earlier: string | null; submitted: string }[];
  problems: { field: string; value: string; allowed: string }[];
}

type ImageGeneration = (request: object) => Promise<RunResult>;

const tenant = 'acme';
const requestId = process.argv[2];
const request = { model: 'gpt-image-2', prompt: 'A lighthouse at dawn', size: '1024x1024', quality: 'low', tenant };
const connection = await Connection.connect({ address: process.env.TEMPORAL_ADDRESS ?? 'localhost:7233' });
const client = new Client({ connection });

try {
  const updateId = randomUUID(); // of this call: with an id that Temporal knows, it would not look at the request
  const start = new WithStartWorkflowOperation<ImageGeneration>('ImageGeneration', {
    taskQueue: 'image-runs',
    workflowId: `image:${tenant}:${requestId}`,
    args: [request],
    workflowIdConflictPolicy: 'USE_EXISTING',
    workflowIdReusePolicy: 'ALLOW_DUPLICATE',
    memo: { submission: updateId },
  });
  const receipt = await client.workflow.executeUpdateWithStart<ImageGeneration, SubmitReceipt, [object]>('submit', {
    args: [request],
    updateId,
    startWorkflowOperation: start,
  });
  console.error(`${receipt.status}: ${receipt.message}`);
  if (receipt.status === 'conflict' || receipt.status === 'refused') {
    console.log(JSON.stringify(receipt));
    process.exitCode = 1;
  } else {
    const handle = await start.workflowHandle();
    console.log(JSON.stringify(await handle.result(), null, 2));
  }
} catch (error) {
  if (!(error instanceof WorkflowFailedError && error.cause instanceof ApplicationFailure)) throw error;
  console.error(`${error.cause.type}: ${error.cause.message}`);
  process.exitCode = 1;
} finally {
  await connection.close();
}
