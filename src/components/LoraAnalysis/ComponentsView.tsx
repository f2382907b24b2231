import { Empty } from "../ui/states";

export function ComponentsView({ name }: { id: string; name: string }) {
  return <Empty title={`Principal components of ${name}`} />;
}
