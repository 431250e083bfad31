// list is Array.fromAsync, which Node 20 has not.
export async function list(stream) {
  const all = [];
  for await (const one of await stream) all.push(one);
  return all;
}
